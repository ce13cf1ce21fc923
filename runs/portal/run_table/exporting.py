"""Downloads of the records of several runs as one file."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from runs.curation.several import MOST_RUNS
from runs.models import LARGEST_ID, Run
from runs.series.downloads import csv_response
from runs.series.exports import commands_csv, epochs_csv, series_csv

WRITERS = {"epochs": epochs_csv, "series": series_csv, "commands": commands_csv}


def exports() -> list[tuple[str, str]]:
    """Return the downloads: the part of the address, and the title of each."""
    return [("epochs", _("Epochs (CSV)")), ("series", _("Series (CSV)")), ("commands", _("Commands (CSV)"))]


@login_required
@require_GET
def export_runs(request: HttpRequest, what: str) -> StreamingHttpResponse:
    """Download epochs, series or commands of the runs of `?run=1&run=2…` that the visitor may see."""
    numbers = [int(text[:20]) for text in request.GET.getlist("run")[:MOST_RUNS] if text.isdecimal()]
    wanted = [number for number in numbers if number <= LARGEST_ID]
    if what not in WRITERS:
        raise Http404
    runs = list(Run.objects.visible_to(request.user).filter(pk__in=wanted).order_by("pk"))
    if not runs:
        raise Http404
    return csv_response(request, f"runs-{what}.csv", WRITERS[what](runs))
