"""The stored console of a run, as text to download and to search, for members who may see the run."""

from __future__ import annotations

from dataclasses import asdict

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from runs.models import Run
from runs.series.console_text import LINES_OF, console_text, find_lines

LONGEST_SEARCH = 200


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


@never_cache
@login_required
@require_GET
def search(request: HttpRequest, pk: int) -> HttpResponse:
    """Return the stored lines that contain `?q=`, of the choice `&lines=`, as `FoundLines` in JSON."""
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    part, choice = request.GET.get("q", "").strip(), request.GET.get("lines", "")
    if not 1 <= len(part) <= LONGEST_SEARCH:
        return _refused("q", _("q: give a text of 1 to %(most)d characters.") % {"most": LONGEST_SEARCH})
    if choice not in LINES_OF:
        return _refused("lines", _("lines: give one of %(known)s.") % {"known": ", ".join(filter(None, LINES_OF))})
    return JsonResponse(asdict(find_lines(run.pk, part, choice)))


def _refused(field: str, error: str) -> HttpResponse:
    return JsonResponse({"error": error, "field": field}, status=422)
