"""Downloading the console of a run as text, for all who may see the run."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from runs.models import Run
from runs.series.console_text import console_text


@never_cache
@login_required
@require_GET
def download(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the console as far as the database keeps it, at most STEERSMAN_CONSOLE_MIB."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    return HttpResponse(
        "".join(console_text(run)),
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="run-{run.pk}-console.txt"'},
    )
