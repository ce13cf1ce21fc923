"""Downloading the difference between an attempt's source and its commit, for people who may command the run."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from runs.access.roles import commanded_run
from runs.series.downloads import patch_response


@never_cache
@login_required
@require_GET
def download(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Return the patch of an attempt; 404 if its source had no uncommitted changes."""
    run = commanded_run(request.user, pk)
    attempt = run.patched_attempt(number)
    if attempt is None:
        raise Http404
    return patch_response(attempt)
