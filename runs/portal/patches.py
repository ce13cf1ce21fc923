"""Downloading what an attempt's source differed in from its commit: for those who may command the run."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from runs.access.roles import commanded_run
from runs.models import LARGEST_ID


@never_cache
@login_required
@require_GET
def download(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Return the patch of an attempt; 404 where its source was as committed."""
    run = commanded_run(request.user, pk)
    patch = run.attempts.filter(number=number).values_list("patch", flat=True).first() if number <= LARGEST_ID else None
    if not patch:
        raise Http404
    response = HttpResponse(patch, content_type="text/x-diff; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="run-{run.pk}-attempt-{number}.patch"'
    return response
