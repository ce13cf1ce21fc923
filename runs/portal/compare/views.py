"""The page of a comparison, its fragments that are refreshed, and the points of its charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET

from runs.access.roles import COMMANDING_ROLES, role_of
from runs.models import Run
from runs.portal.compare.bands import read_bands
from runs.portal.compare.charts import chart_groups
from runs.portal.compare.curves import BadQuery, CurveQuery, encode, read_curves
from runs.portal.compare.epoch_places import places_of, read_ends
from runs.portal.compare.facts import Fact, facts_of
from runs.portal.compare.grouping import Choice, Group, choices, groups_of
from runs.portal.compare.importance import NotComputed, importance_of
from runs.portal.compare.metrics import measured
from runs.portal.compare.requested_runs import MOST_RUNS, baseline_of, find_runs, notes_on, numbers_of
from runs.portal.compare.tables import metric_lines, parameter_lines, wins_of
from runs.portal.run_table.rows import Row, row_of


@dataclass(frozen=True, slots=True)
class Compared:
    """A column of the tables and a line of all charts: a run, or a group of runs, which has no `row`.

    `key` identifies it on the page, `without` is the address without it. `wins` is the number of metrics in which it
    has the best value, and `is_best` marks the column with most wins.
    """

    key: str
    title: str
    note: str
    runs: list[Run]
    row: Row | None
    without: str
    is_baseline: bool
    wins: int
    is_best: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The runs that an address names, or groups of them by `choice`, one of `offered`."""

    asked: list[int]
    found: list[Run]
    runs: list[Run]
    offered: list[Choice]
    choice: Choice | None
    groups: list[Group]

    @classmethod
    def of(cls, request: HttpRequest) -> Comparison:
        asked = numbers_of(request.GET.getlist("run"))
        found = find_runs(asked, request.user)
        offered = choices(found)
        choice = next((one for one in offered if one.key == request.GET.get("group", "")), None)
        runs = found if choice else found[:MOST_RUNS]
        return cls(asked, found, runs, offered, choice, groups_of(runs, choice) if choice else [])

    @property
    def columns(self) -> list[list[Run]]:
        return [group.runs for group in self.groups] if self.choice else [[run] for run in self.runs]

    @property
    def keys(self) -> list[str]:
        return [str(place) for place in range(len(self.groups))] if self.choice else [str(run.pk) for run in self.runs]


@login_required
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Compare the runs of `?run=1&run=2…`, with the run `&baseline=1`, in groups by `&group=parameter:NAME`.

    `&fragment=1` returns only the tables.
    """
    comparison = Comparison.of(request)
    runs = comparison.runs
    baseline = baseline_of(request.GET.get("baseline", ""), comparison.keys)
    found = measured(runs)
    lines = metric_lines(comparison.columns, found, baseline)
    differing, equal = parameter_lines(comparison.columns, baseline)
    compared = _compared(comparison, baseline, wins_of(lines, len(comparison.columns)))
    context: dict[str, Any] = {
        "compared": compared,
        "notes": notes_on(comparison.asked, comparison.found, bool(comparison.choice)),
        "metrics": lines,
        "differing": differing,
        "equal": equal,
        "most_runs": MOST_RUNS,
        "facts": _facts_for_page(comparison, facts_of(runs, found)),
        "several_projects": len({run.project_id for run in runs}) > 1,
    }
    if "fragment" in request.GET:
        return render(request, "runs/partials/compare_tables.html", context)
    groups = chart_groups(found)
    context |= {
        "chart_groups": groups,
        "comparison": comparison,
        "page": {
            "runs": [_for_page(item) for item in compared],
            "members": [run.pk for run in runs],
            "group_by": comparison.choice.key if comparison.choice else "",
            "groups": [group.for_page() for group in groups],
            **_pins_for_page(runs, request.user),
        },
    }
    return render(request, "runs/compare.html", context)


@login_required
@require_GET
@gzip_page
def compare_curves(request: HttpRequest) -> HttpResponse:
    """Return the points of some charts of the runs of `?run=1&run=2…`, as `curves.encode` describes.

    With `&group=parameter:NAME` there is one curve for each group, as `bands.read_bands` describes.
    """
    try:
        query = CurveQuery.of(request.GET)
    except BadQuery as error:
        return HttpResponse(str(error), status=422, content_type="text/plain; charset=utf-8")
    comparison = Comparison.of(request)
    curves = read_bands(comparison.groups, query) if comparison.choice else read_curves(comparison.runs, query)
    response = HttpResponse(encode(curves), content_type="application/octet-stream")
    response["Cache-Control"] = "private, no-store"
    return response


def _compared(comparison: Comparison, baseline: int | None, wins: Sequence[int]) -> list[Compared]:
    now = timezone.now()
    most = max(wins, default=0)
    kept = [] if baseline is None else [("baseline", comparison.keys[baseline])]
    titles = [group.label for group in comparison.groups] or [run.name for run in comparison.runs]
    compared = []
    for place, (key, own) in enumerate(zip(comparison.keys, comparison.columns, strict=True)):
        others: list[tuple[str, int | str]] = [("run", other.pk) for other in comparison.runs if other not in own]
        if comparison.choice:
            others.append(("group", comparison.choice.key))
        count = ngettext("%(count)d run", "%(count)d runs", len(own)) % {"count": len(own)}
        compared.append(
            Compared(
                key=key,
                title=titles[place],
                note=count if comparison.choice else f"#{key}",
                runs=own,
                row=None if comparison.choice else row_of(own[0], now),
                without=f"{reverse('compare')}?{urlencode([*others, *([] if comparison.choice else kept)])}",
                is_baseline=place == baseline,
                wins=wins[place],
                is_best=wins[place] == most > 0 and wins.count(most) == 1,
            )
        )
    return compared


@login_required
@require_GET
def compare_importance(request: HttpRequest) -> HttpResponse:
    """Return the table of the parameters' importance for the metric `&target=KEY`, over the compared runs."""
    comparison = Comparison.of(request)
    facts = facts_of(comparison.runs, measured(comparison.runs))
    target = next((fact for fact in facts if fact.is_metric and fact.key == request.GET.get("target", "")), None)
    context: dict[str, Any] = {"target": target}
    if target is None:
        context["reason"] = _("target: choose one of the metrics of these runs.")
    else:
        try:
            context["rows"] = importance_of(target, facts)
        except NotComputed as error:
            context["reason"] = str(error)
    return render(request, "runs/partials/compare_importance.html", context)


def _facts_for_page(comparison: Comparison, facts: Sequence[Fact]) -> dict[str, Any]:
    ends = read_ends(comparison.runs)
    line_of = {run.pk: int(key) for key, own in zip(comparison.keys, comparison.columns, strict=True) for run in own}
    return {
        "facts": [fact.for_page() for fact in facts],
        "lines": [line_of[run.pk] for run in comparison.runs],
        # The epoch and step of each end, by run; places of groups are on the axis already.
        "epoch_ends": {} if comparison.choice else {str(run_id): own for run_id, own in ends.items()},
        "without_epochs": sum(places_of(run, ends) is None for run in comparison.runs),
    }


def _pins_for_page(runs: Sequence[Run], user: AbstractBaseUser | AnonymousUser) -> dict[str, Any]:
    """Return the pinned charts of the runs' projects, and the addresses for the scripts.

    Pins of runs of one project are those of the project; a browser stores changes for several.
    """
    projects = {run.project_id: run.project for run in runs}
    addresses = {"curves": reverse("compare_curves"), "importance": reverse("compare_importance")}
    may_pin = False
    if len(projects) == 1:
        addresses |= {"pins": reverse("api:pins", args=[runs[0].pk]), "login": reverse("login")}
        may_pin = role_of(user, runs[0]) in COMMANDING_ROLES
    return {
        "project": "+".join(map(str, sorted(projects))),
        "pins": list(dict.fromkeys(name for project in projects.values() for name in project.pinned_charts)),
        "may_pin": may_pin,
        "addresses": addresses,
    }


def _for_page(item: Compared) -> dict[str, Any]:
    """Return the fields of a line for the scripts. The places of a group's curve are already on the chosen axis."""
    groups = {run.group for run in item.runs}
    known: dict[str, Any] = {
        "id": int(item.key),
        "label": f"{item.title} {item.note}" if item.row else f"{item.title} ({item.note})",
        "group": groups.pop() if len(groups) == 1 else "live",
        "start": None,
        # Epochs of a group are not converted again.
        "steps_per_epoch": 1,
    }
    if item.row is not None:
        run = item.row.run
        known["start"] = run.started_at.timestamp() if run.started_at else None
        known["steps_per_epoch"] = run.steps_per_epoch
    return known
