"""Several runs side by side: what differs in their parameters, how far they came, one series over each other.

The number of queries grows with the runs that are compared, at most ten, and never with their length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.db.models import Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from runs.live.snapshot import epoch_as_wire
from runs.models import LARGEST_ID, Axis, EpochMetric, Run, Series
from runs.portal.run_table.rows import Row, row_of, with_loss
from runs.protocol.nonfinite import WRITTEN
from runs.protocol.series_names import LOSS_NAMES, NaturalKey, natural_key
from runs.selection.expressions import BEST_OF

MOST_RUNS = 10
# More names than a person scrolls through in one list.
MOST_SERIES = 300


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the runs: its row, its place (which colour and dash it has), and the address without it."""

    row: Row
    place: int
    without: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table. `text` is what is shown where it is no number; `is_best` marks the best of its line."""

    number: float | None = None
    text: str = ""
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One line of a table: a name, which of its values it tells in words (the last, the lowest), and a cell a run."""

    name: str
    part: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Choice:
    """A series that can be drawn: its value in the chooser, what is shown of it, and how many of the runs have it."""

    value: str
    text: str
    runs: int
    is_machine: bool = False


@login_required
@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Compare the runs of `?run=1&run=2…`; `&fragment=1` gives the tables alone. Curves come from the API."""
    asked = _numbers(request.GET.getlist("run"))
    found = {run.pk: run for run in with_loss(Run.objects.visible_to(request.user).filter(pk__in=asked[:MOST_RUNS]))}
    runs = [found[number] for number in asked[:MOST_RUNS] if number in found]
    now = timezone.now()
    series = _series_of(runs)
    epochs = {run.pk: _ends_of(run) for run in runs}
    context = {
        "compared": [_compared(run, place, runs, row_of(run, now)) for place, run in enumerate(runs)],
        "notes": _notes(asked, runs),
        "metrics": _metrics(runs, series, epochs),
    }
    if "fragment" in request.GET:
        return render(request, "runs/partials/compare_tables.html", context)
    differing, equal = _parameters(runs)
    choices = _choices(runs, series, epochs)
    context |= {
        "differing": differing,
        "equal": equal,
        "choices": choices,
        "chosen": chosen(request.GET.get("series", ""), choices, len(runs)),
        "page": {
            "runs": [_for_page(run) for run in runs],
            "addresses": {"login": reverse("login")},
        },
    }
    return render(request, "runs/compare.html", context)


def _numbers(texts: Iterable[str]) -> list[int]:
    numbers = (int(text[:20]) for text in texts if text.isdecimal())
    return list(dict.fromkeys(number for number in numbers if number <= LARGEST_ID))


def _notes(asked: Sequence[int], runs: Sequence[Run]) -> list[str]:
    notes = []
    if len(asked) > MOST_RUNS:
        text = _("At most %(most)d runs can be compared. These are the first of %(asked)d.")
        notes.append(text % {"most": MOST_RUNS, "asked": len(asked)})
    missing = min(len(asked), MOST_RUNS) - len(runs)
    if missing:
        text = ngettext(
            "%(count)d run does not exist, or you are not a member of its project: it is left out.",
            "%(count)d runs do not exist, or you are not a member of their projects: they are left out.",
            missing,
        )
        notes.append(text % {"count": missing})
    return notes


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
        "points": reverse("api:points", args=[run.pk]),
        "epochs": reverse("api:epochs", args=[run.pk]),
    }


def _series_of(runs: Sequence[Run]) -> dict[int, dict[str, Series]]:
    found: dict[int, dict[str, Series]] = {run.pk: {} for run in runs}
    for series in Series.objects.filter(run__in=runs).order_by("name", "run"):
        found[series.run_id][series.name] = series
    return found


def _ends_of(run: Run) -> dict[str, dict[str, Any]]:
    """Return the values of the last epoch ("last") and the best of all epochs that count ("best")."""
    epochs = run.epochs.counted()
    last = epochs.order_by("-epoch", "-attempt", "-order").first()
    if last is None:
        return {"last": {}, "best": {}}
    best = epochs.order_by().aggregate(**{name: end(name) for name, end in BEST_OF.items()})
    wire = epoch_as_wire(last)
    return {"last": wire["values"] | wire["nonfinite"], "best": best}


def _metrics(
    runs: Sequence[Run], series: dict[int, dict[str, Series]], epochs: dict[int, dict[str, dict[str, Any]]]
) -> list[CompareRow]:
    lines = []
    for name in _epoch_names(runs, epochs):
        lines.append(CompareRow(name, _("last"), [_cell(epochs[run.pk]["last"].get(name)) for run in runs]))
        if name in BEST_OF:
            values = [epochs[run.pk]["best"].get(name) for run in runs]
            lowest = BEST_OF[name] is Min
            lines.append(CompareRow(name, _("lowest") if lowest else _("highest"), _marked(values, lowest)))
    for name in _names(series, Axis.STEP):
        points = [series[run.pk].get(name) for run in runs]
        cells = [_cell(point and (point.last_nonfinite or point.last_value)) for point in points]
        lines.append(CompareRow(name, _("last"), cells))
    return lines


def _marked(values: Sequence[float | None], lowest_is_best: bool) -> list[Cell]:
    numbers = [value for value in values if value is not None]
    best = (min if lowest_is_best else max)(numbers) if len(numbers) > 1 else None
    return [Cell(number=value, is_best=value is not None and value == best) for value in values]


def _cell(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(number=value) if is_number else Cell(text="" if value is None else WRITTEN.get(value, str(value)))


def _names(series: dict[int, dict[str, Series]], axis: Axis) -> list[str]:
    names = {name for of_run in series.values() for name, row in of_run.items() if row.axis == axis}
    return sorted(names, key=natural_key)[:MOST_SERIES]


def _epoch_names(runs: Sequence[Run], epochs: dict[int, dict[str, dict[str, Any]]]) -> list[str]:
    names = {name for run in runs for name in epochs[run.pk]["last"]}
    return [name for name in EpochMetric.COLUMNS if name in names] + sorted(
        names - set(EpochMetric.COLUMNS), key=natural_key
    )


def _parameters(runs: Sequence[Run]) -> tuple[list[CompareRow], list[tuple[str, str]]]:
    """Return the parameters that differ, a cell a run, and those that are equal in all runs."""
    settings = [_settings(run) for run in runs]
    differing: list[CompareRow] = []
    equal: list[tuple[str, str]] = []
    for name in dict.fromkeys(name for of_run in settings for name in of_run):
        texts = [of_run.get(name, "–") for of_run in settings]
        if len(set(texts)) > 1:
            differing.append(CompareRow(name, "", [Cell(text=text) for text in texts]))
        else:
            equal.append((name, texts[0]))
    return differing, equal


def _settings(run: Run) -> dict[str, str]:
    about = {
        _("recipe"): run.recipe.spec if run.recipe else _("own script"),
        _("device"): run.device or "–",
        _("seed"): str(run.seed),
    }
    return about | {name: str(value) for name, value in sorted(run.parameters.items(), key=_by_name)}


def _by_name(item: tuple[str, Any]) -> NaturalKey:
    return natural_key(item[0])


def _choices(
    runs: Sequence[Run], series: dict[int, dict[str, Series]], epochs: dict[int, dict[str, dict[str, Any]]]
) -> list[tuple[str, list[Choice]]]:
    """Return the groups of the chooser; a measure of epochs has the value `epoch:NAME`."""

    def choice(value: str, name: str, runs_with: int, is_machine: bool = False) -> Choice:
        text = _("%(name)s (%(number)d of %(runs)d runs)") % {"name": name, "number": runs_with, "runs": len(runs)}
        return Choice(value, name if runs_with == len(runs) else text, runs_with, is_machine)

    def of_axis(axis: Axis) -> list[Choice]:
        counts = {name: sum(name in own for own in series.values()) for name in _names(series, axis)}
        return [choice(name, name, count, axis == Axis.TIME) for name, count in counts.items()]

    by_epoch = [
        choice(f"epoch:{name}", name, sum(name in epochs[run.pk]["last"] for run in runs))
        for name in _epoch_names(runs, epochs)
    ]
    groups = ((_("Training"), of_axis(Axis.STEP)), (_("Epochs"), by_epoch), (_("Machine"), of_axis(Axis.TIME)))
    return [group for group in groups if group[1]]


def chosen(asked: str, choices: Sequence[tuple[str, Sequence[Choice]]], runs: int) -> str:
    """Return the value of the series to open with: the one asked for, or else one that most of the runs have.

    A loss comes first if at least half of the runs have it; of the others the first of those that the most runs have,
    with training and epochs before machines.
    """
    options = [option for _title, group in choices for option in group]
    if any(option.value == asked for option in options):
        return asked
    losses = [one for name in LOSS_NAMES for one in options if one.value == name and 2 * one.runs >= runs]
    candidates = losses or [one for one in options if not one.is_machine] or options
    return max(candidates, key=lambda option: option.runs).value if candidates else ""
