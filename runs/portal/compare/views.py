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
from runs.portal.compare.asked import MOST_RUNS, baseline_of, find_runs, notes_on, numbers_of
from runs.portal.compare.charts import chart_groups
from runs.portal.compare.curves import BadQuery, CurveQuery, encode, read_curves
from runs.portal.compare.metrics import measured
from runs.portal.compare.tables import metric_lines, parameter_lines, wins_of
from runs.portal.run_table.rows import Row, row_of


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the runs: its row, the address without it, and of how many metrics it has the best value.

    `is_best` marks those that are best in more metrics than all others.
    """

    row: Row
    without: str
    is_baseline: bool
    wins: int
    is_best: bool


@login_required
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Compare the runs of `?run=1&run=2…`, with the run `&baseline=1`; `&fragment=1` returns the tables alone."""
    asked = numbers_of(request.GET.getlist("run"))
    runs = find_runs(asked, request.user)
    baseline = baseline_of(request.GET.get("baseline", ""), runs)
    found = measured(runs)
    lines = metric_lines(runs, found, baseline)
    differing, equal = parameter_lines(runs, baseline)
    context: dict[str, Any] = {
        "compared": _compared(runs, baseline, wins_of(lines, len(runs))),
        "notes": notes_on(asked, runs),
        "metrics": lines,
        "differing": differing,
        "equal": equal,
        "most_runs": MOST_RUNS,
        "several_projects": len({run.project_id for run in runs}) > 1,
    }
    if "fragment" in request.GET:
        return render(request, "runs/partials/compare_tables.html", context)
    groups = chart_groups(found)
    context |= {
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


def _compared(runs: Sequence[Run], baseline: int | None, wins: Sequence[int]) -> list[Compared]:
    now = timezone.now()
    most = max(wins, default=0)
    kept = [] if baseline is None else [("baseline", runs[baseline].pk)]
    return [
        Compared(
            row=row_of(run, now),
            without=f"{reverse('compare')}?{urlencode([*_others(runs, run), *kept])}",
            is_baseline=place == baseline,
            wins=wins[place],
            is_best=wins[place] == most > 0 and wins.count(most) == 1,
        )
        for place, run in enumerate(runs)
    ]


def _others(runs: Sequence[Run], run: Run) -> list[tuple[str, int]]:
    return [("run", other.pk) for other in runs if other is not run]


def _for_page(run: Run) -> dict[str, Any]:
    return {
        "id": run.pk,
        "name": run.name,
        "group": run.group,
        "start": run.started_at.timestamp() if run.started_at else None,
        "steps_per_epoch": run.steps_per_epoch,
    }
