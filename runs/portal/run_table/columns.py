"""The columns of the list: the shown ones, their names in the address, and the content of their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import OuterRef, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.alerts.wording.texts import reason_of_run
from runs.models import EpochMetric, Run, RunQuerySet, Series
from runs.protocol.nonfinite import WRITTEN
from runs.protocol.series_names import natural_key
from runs.recording.liveness import gpu_hours_of
from runs.selection.expressions import BEST_OF
from runs.selection.fields import (
    BEST,
    EPOCH,
    GREATEST,
    LAST,
    LEAST,
    OF_SERIES,
    OWN_FIELDS,
    PARAMETER,
    Field,
    Kind,
    field_of,
)
from runs.selection.ordering import Order

# The default columns: as many as fit on a laptop.
DEFAULT = ("state", "name", "recipe", "progress", "best", "loss", "started", "duration", "author")
# Shown in every list: what a row is, and its state.
ALWAYS = ("state", "name")
# Left-aligned, although numbers: they are shown as texts or bars.
LEFT = ("progress", "id", "seed", "attempt", "ranks", "step", "epoch")
MOST_COLUMNS = 20
# The menu takes names of parameters and series from this many of the newest matching runs.
NAMED_BY = 200
MOST_NAMES = 300


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column, a link that sorts by it. `sorted` is "ascending", "descending" or empty."""

    key: str
    title: str
    note: str
    query: str
    sorted: str
    is_number: bool
    # Whether the note is in sight: the last value of a series has the same title.
    shows_note: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """The content of a row in a column. `key` is empty for a parameter or a value of a series."""

    key: str
    title: str
    number: float | None = None
    text: str = ""
    name: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A column that the menu offers."""

    key: str
    title: str
    is_shown: bool


def chosen_columns(keys: Sequence[str]) -> list[Field]:
    """Return the columns in an address, in its order; the default ones if it names none that exists."""
    fields = {key: field for key in keys[:MOST_COLUMNS] if (field := field_of(key)) is not None}
    if not fields:
        return [OWN_FIELDS[key] for key in DEFAULT]
    always = {key: OWN_FIELDS[key] for key in ALWAYS}
    return list((always | fields).values())


def is_default(columns: Sequence[Field]) -> bool:
    return tuple(field.key for field in columns) == DEFAULT


def heads_of(columns: Sequence[Field], order: Order, query: Sequence[tuple[str, str]]) -> list[Head]:
    """Return a head for each column; `query` is the rest of the list's query."""
    return [_head(field, order, query) for field in columns]


def _head(field: Field, order: Order, query: Sequence[tuple[str, str]]) -> Head:
    is_sorted = order.field is not None and order.field.key == field.key
    towards = "descending" if order.descending else "ascending"
    return Head(
        key=field.key,
        title=str(field.title),
        note=note_of(field),
        query=urlencode([*query, ("sort", str(order.toggled(field)))]),
        sorted=towards if is_sorted else "",
        is_number=field.kind in (Kind.NUMBER, Kind.DURATION) and field.key not in LEFT,
        shows_note=field.key.startswith((LEAST, GREATEST)),
    )


def note_of(field: Field) -> str:
    """Return a note about a column: that it is a parameter, or which value of a series."""
    if field.key.startswith(PARAMETER):
        return _("parameter")
    if field.key.startswith(EPOCH):
        return _("value of the last epoch")
    if field.key.startswith(BEST):
        return _("best of all epochs")
    notes = {LAST: _("last value"), LEAST: _("lowest value"), GREATEST: _("highest value")}
    return next((note for prefix, note in notes.items() if field.key.startswith(prefix)), "")


def with_epochs(runs: RunQuerySet, columns: Sequence[Field]) -> RunQuerySet:
    """Annotate each run with the epoch metrics of the columns, as `column_0` and so on by their index."""
    shown = {
        f"column_{place}": field.expression()
        for place, field in enumerate(columns)
        if field.key.startswith((EPOCH, BEST))
    }
    return runs.annotate(**shown)


class Values:
    """The last, least and greatest values of series of the runs on a page, read with one query."""

    def __init__(self, runs: Sequence[Run], columns: Iterable[Field]) -> None:
        names = {field.key.partition(":")[2] for field in columns if field.key.startswith(tuple(OF_SERIES))}
        found = Series.objects.filter(run__in=runs, name__in=names) if names else Series.objects.none()
        self._values = {(series.run_id, series.name): series for series in found}

    def cells(self, run: Run, columns: Sequence[Field]) -> list[Cell]:
        """Return the cells of a run that `with_epochs` annotated."""
        return [self._cell(run, field, place) for place, field in enumerate(columns)]

    def _cell(self, run: Run, field: Field, place: int) -> Cell:
        title = str(field.title)
        if field.key.startswith((EPOCH, BEST)):
            return Cell("", title, getattr(run, f"column_{place}"), name=title)
        if field.key.startswith(tuple(OF_SERIES)):
            kind, separator, name = field.key.partition(":")
            series = self._values.get((run.pk, name))
            if series is None:
                return Cell("", title)
            is_last = field.key.startswith(LAST)
            text = WRITTEN.get(series.last_nonfinite, "") if is_last else ""
            shown = title if is_last else f"{title}, {note_of(field)}"
            return Cell("", shown, getattr(series, OF_SERIES[kind + separator]), text, name)
        if field.key.startswith(PARAMETER):
            return _parameter_cell(title, run.parameters.get(field.key.removeprefix(PARAMETER)))
        return _own_cell(run, field)


def _parameter_cell(title: str, value: Any) -> Cell:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell("", title, text=str(value))
    if value is None:
        return Cell("", title)
    return Cell("", title, text=str(value).lower() if isinstance(value, bool) else str(value))


def _own_cell(run: Run, field: Field) -> Cell:
    title = str(field.title)
    match field.key:
        case "created" | "ended":
            return Cell("moment", title, at=getattr(run, f"{field.key}_at"))
        case "id" | "seed" | "attempt" | "ranks" | "step" | "epoch":
            return Cell("", title, text=str(run.pk if field.key == "id" else getattr(run, field.key)))
        case "gpu_hours":
            hours = gpu_hours_of(run, timezone.now())
            return Cell("", title, None if hours is None else round(hours, 2), name="gpu_hours")
        case "device":
            return Cell("", title, text=run.device)
        case "reason":
            return Cell("", title, text=reason_of_run(run))
        case "host":
            return Cell("", title, text=getattr(run, "last_host", "") or "")
        case "project":
            return Cell("", title, text=run.project.name)
    return Cell(field.key, title)


def offers(runs: RunQuerySet, columns: Sequence[Field]) -> list[tuple[str, list[Offer]]]:
    """Return the menu of columns, in groups: facts, and parameters and series of the newest of `runs`."""
    shown = {field.key for field in columns}
    newest = list(runs.order_by("-pk").values_list("pk", "parameters")[:NAMED_BY])
    parameters = sorted({name for _pk, named in newest for name in named}, key=natural_key)[:MOST_NAMES]
    series = Series.objects.filter(run__in=[pk for pk, _named in newest]).order_by()
    names = sorted(series.values_list("name", flat=True).distinct(), key=natural_key)[:MOST_NAMES]
    measures = _measures_of([pk for pk, _named in newest])
    groups = (
        (_("Run"), [(key, str(field.title)) for key, field in OWN_FIELDS.items() if key not in ALWAYS]),
        (_("Parameters"), [(f"{PARAMETER}{name}", name) for name in parameters]),
        (_("Last values"), [(f"{LAST}{name}", name) for name in names]),
        (_("Lowest values"), [(f"{LEAST}{name}", name) for name in names]),
        (_("Highest values"), [(f"{GREATEST}{name}", name) for name in names]),
        (_("Last epoch"), [(f"{EPOCH}{name}", name) for name in measures]),
        (_("Best epoch"), [(f"{BEST}{name}", name) for name in measures if name in BEST_OF]),
    )
    kept = {key for _title, group in groups for key, _name in group}
    missing = [(field.key, str(field.title)) for field in columns if field.key not in kept and field.key not in ALWAYS]
    return [
        (title, [Offer(key, name, key in shown) for key, name in group])
        for title, group in (*groups, (_("Others"), missing))
        if group
    ]


def looked_at(runs: RunQuerySet) -> int | None:
    """Return of how many of `runs` the menu has the names, None if of all."""
    return NAMED_BY if runs.order_by()[NAMED_BY : NAMED_BY + 1].exists() else None


def _measures_of(run_ids: Sequence[int]) -> list[str]:
    """Return the names of values in the last epochs of runs, the usual ones first."""
    last = EpochMetric.objects.filter(run=OuterRef("pk"), abandoned=False).order_by("-attempt", "-epoch", "-order")
    found = Run.objects.filter(pk__in=run_ids).values(number=Subquery(last.values("pk")[:1]))
    names = {name for epoch in EpochMetric.objects.filter(pk__in=found) for name in epoch.reported}
    usual = [name for name in EpochMetric.COLUMNS if name in names]
    return (usual + sorted(names - set(usual), key=natural_key))[:MOST_NAMES]
