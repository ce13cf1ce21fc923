"""The page of a comparison, the parts of it that are fetched again, and the points of its charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET

from runs.models import Run
from runs.portal.compare.asked import MOST_RUNS, find_runs, notes_on, numbers_of
from runs.portal.compare.charts import chart_groups
from runs.portal.compare.curves import BadQuery, CurveQuery, encode, read_curves
from runs.portal.compare.metrics import measured
from runs.portal.compare.tables import metric_lines, parameter_lines
from runs.portal.run_table.rows import Row, row_of


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the runs: its row, its place (which colour and dash it has), and the address without it."""

    row: Row
    place: int
    without: str


@login_required
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Compare the runs of `?run=1&run=2…`; `&fragment=1` returns the tables alone."""
    asked = numbers_of(request.GET.getlist("run"))
    runs = find_runs(asked, request.user)
    now = timezone.now()
    found = measured(runs)
    context: dict[str, Any] = {
        "compared": [_compared(run, place, runs, row_of(run, now)) for place, run in enumerate(runs)],
        "notes": notes_on(asked, runs),
        "metrics": metric_lines(runs, found),
        "most_runs": MOST_RUNS,
        "several_projects": len({run.project_id for run in runs}) > 1,
    }
    if "fragment" in request.GET:
        return render(request, "runs/partials/compare_tables.html", context)
    differing, equal = parameter_lines(runs)
    groups = chart_groups(found)
    context |= {
        "differing": differing,
        "equal": equal,
        "chart_groups": groups,
        "page": {
            "runs": [_for_page(run) for run in runs],
            "groups": [group.for_page() for group in groups],
            "addresses": {"curves": reverse("compare_curves")},
        },
    }
    return render(request, "runs/compare.html", context)


@login_required
@require_GET
@gzip_page
def compare_curves(request: HttpRequest) -> HttpResponse:
    """Return the points of some charts of the runs of `?run=1&run=2…`, as `curves.encode` describes."""
    try:
        query = CurveQuery.of(request.GET)
    except BadQuery as error:
        return HttpResponse(str(error), status=422, content_type="text/plain; charset=utf-8")
    runs = find_runs(numbers_of(request.GET.getlist("run")), request.user)
    response = HttpResponse(encode(read_curves(runs, query)), content_type="application/octet-stream")
    response["Cache-Control"] = "private, no-store"
    return response


def _compared(run: Run, place: int, runs: Sequence[Run], row: Row) -> Compared:
    others = urlencode([("run", other.pk) for other in runs if other is not run])
    return Compared(row=row, place=place, without=f"{reverse('compare')}?{others}")


def _for_page(run: Run) -> dict[str, Any]:
    return {
        "id": run.pk,
        "name": run.name,
        "group": run.group,
        "start": run.started_at.timestamp() if run.started_at else None,
        "steps_per_epoch": run.steps_per_epoch,
    }
