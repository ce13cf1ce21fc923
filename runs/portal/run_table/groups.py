"""The list in groups: runs that have the value of a column in common, their number, and the spread of what they
measured."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Expression, F, QuerySet, Subquery
from django.utils.translation import gettext as _

from runs.access.roles import display_name
from runs.models import Run, RunQuerySet, RunState
from runs.portal.run_table.columns import MOST_NAMES, NAMED_BY
from runs.protocol.series_names import natural_key
from runs.protocol.states import LIVE
from runs.selection.expressions import ParameterJson
from runs.selection.fields import BEST, EPOCH, OF_SERIES, OWN_FIELDS, PARAMETER, Field, Kind, field_of
from runs.selection.ordering import Order, ordered

GROUPED_BY = ("state", "author", "host", "tag", "project", "recipe", "device", "seed")
# What differs between runs of one setting: of these a group has a mean.
MEASURED = ("best", "loss", "duration", "gpu_hours")
# A parameter with more values among the newest runs divides them into groups of about one run.
MOST_GROUPS = 50
# Squares of larger numbers than 1 / SAFE overflow, and those of smaller ones vanish.
SAFE = 1e-100
# Before the numbers, in a row of `gather`.
LEADING = ("group_value", "pk", "state", "best_metric_name")
# Unfolded groups of one address, and the runs that each shows.
MOST_OPEN = 10
MOST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Spread:
    """What a column holds in a group. `deviation` is the sample standard deviation, None for a single value.

    `is_setting` is true for a parameter, of which the range is shown in place of the mean. `unlike` is true if the
    values belong to different metrics, which have no mean.
    """

    title: str
    name: str = ""
    count: int = 0
    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    is_setting: bool = False
    is_duration: bool = False
    unlike: bool = False


@dataclass(frozen=True, slots=True)
class Gathered:
    """The runs of a group, and their numbers by column; `value` is None for runs that lack what is grouped by."""

    value: str | None
    runs: list[int]
    live: int
    numbers: dict[str, list[float]]
    best_names: set[str]


def group_field(key: str) -> Field | None:
    """Return the field by which an address groups, None if it names none that can."""
    found = field_of(key)
    return found if found is not None and (key in GROUPED_BY or found.kind is Kind.PARAMETER) else None


def group_choices(runs: RunQuerySet, present: Field | None) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what the menu offers, in two groups: facts, and the parameters in which the newest of `runs` differ.

    One query.
    """
    values: dict[str, set[str]] = {}
    for found in runs.order_by("-pk").values_list("parameters", flat=True)[:NAMED_BY]:
        for name, value in found.items():
            values.setdefault(name, set()).add(str(value))
    names = {name for name, differing in values.items() if 2 <= len(differing) <= MOST_GROUPS}
    if present is not None and present.kind is Kind.PARAMETER:
        names.add(present.key.removeprefix(PARAMETER))
    parameters = [(PARAMETER + name, name) for name in sorted(names, key=natural_key)[:MOST_NAMES]]
    facts = [(key, str(OWN_FIELDS[key].title)) for key in GROUPED_BY]
    return [(title, choices) for title, choices in ((_("Run"), facts), (_("Parameters"), parameters)) if choices]


def gather(
    runs: RunQuerySet, by: Field, columns: Sequence[Field], order: Order, opened: Collection[str]
) -> list[Gathered]:
    """Return the groups of `runs`, sorted. The runs of those in `opened` stand in `order`. One query for all.

    Numbers are added up here and not by the database: PostgreSQL refuses sums that overflow, and SQLite has no standard
    deviation.
    """
    wanted = {each.key: each for each in (*columns, order.field) if each is not None}
    measured = [each for each in wanted.values() if _is_measured(each)]
    named = {f"number_{place}": each.expression() for place, each in enumerate(measured)}
    # By a number that is read anyway they are sorted here: the database would look it up once more for each run.
    place = _place_of_order(measured, order)
    found = ordered(runs, order) if opened and place is None else runs.order_by()
    found = found.annotate(group_value=_value_of(by), **named)
    read = _parameter if by.kind is Kind.PARAMETER else _text
    values: dict[Any, str | None] = {}
    alike: dict[str | None, list[tuple[Any, ...]]] = {}
    for row in _stored_rows(found.values_list(*LEADING, *named)):
        stored = row[0]
        if stored not in values:
            values[stored] = read(stored)
        alike.setdefault(values[stored], []).append(row)
    if place is not None:
        for value, own in alike.items():
            if (value or "") in opened:
                own.sort(key=lambda row: _by_number(row, len(LEADING) + place, order.descending))
    return _in_order([_gathered(value, own, measured) for value, own in alike.items()], by, order)


def _stored_rows(found: QuerySet[Run, tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows as the driver has them: with thousands, it takes long to convert each float to a float."""
    try:
        sql, parameters = found.query.sql_with_params()
    except EmptyResultSet:
        return []
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _gathered(value: str | None, rows: Sequence[tuple[Any, ...]], measured: Sequence[Field]) -> Gathered:
    _values, runs, states, best_names, *columns = zip(*rows, strict=True)
    numbers = {
        each.key: [number for number in column if number is not None]
        for each, column in zip(measured, columns, strict=True)
    }
    return Gathered(value, list(runs), sum(state in LIVE for state in states), numbers, set(best_names) - {""})


def _place_of_order(measured: Sequence[Field], order: Order) -> int | None:
    """Return the place of the number that runs are sorted by, None if they are sorted by something else."""
    keys = [each.key for each in measured if each.kind is not Kind.PARAMETER]
    if order.field is None or order.field.key not in keys:
        return None
    return [each.key for each in measured].index(order.field.key)


def _by_number(row: tuple[Any, ...], place: int, descending: bool) -> tuple[bool, bool, float, int]:
    """Return the key that sorts as `ordered` does: live runs first, those without the number last, then the newest."""
    number = row[place]
    return row[2] not in LIVE, number is None, -(number or 0.0) if descending else number or 0.0, -row[1]


def spread_of(group: Gathered, column: Field) -> Spread:
    """Return what a group has in a column; a spread without numbers if the column has none to add up."""
    title = str(column.title)
    numbers = group.numbers.get(column.key, [])
    if not numbers:
        return Spread(title)
    names = group.best_names
    if column.key == "best" and len(names) > 1:
        return Spread(title, unlike=True)
    mean, deviation = mean_and_deviation(numbers)
    return Spread(
        title,
        next(iter(names), "") if column.key == "best" else column.key if column.key in OWN_FIELDS else title,
        len(numbers),
        mean,
        deviation,
        min(numbers),
        max(numbers),
        column.kind is Kind.PARAMETER,
        column.kind is Kind.DURATION,
    )


def mean_and_deviation(numbers: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (None of a single number) of at least one finite number."""
    low, high = min(numbers), max(numbers)
    if low == high:
        return low, 0.0 if len(numbers) > 1 else None
    largest = max(abs(low), abs(high))
    if not SAFE < largest < 1 / SAFE:
        # So that no sum overflows, and no square vanishes.
        mean, deviation = mean_and_deviation([number / largest for number in numbers])
        return mean * largest, None if deviation is None else deviation * largest
    mean = math.fsum(numbers) / len(numbers)
    variance = math.fsum([(number - mean) ** 2 for number in numbers]) / (len(numbers) - 1)
    return mean, math.sqrt(variance)


def titles_of(groups: Iterable[Gathered], by: Field) -> dict[str | None, str]:
    """Return the texts by which people know the values of groups. Authors take a query for all of them."""
    values = [group.value for group in groups]
    named: dict[str, str] = {}
    if by.key == "state":
        named = {str(value): str(label) for value, label in RunState.choices}
    elif by.key == "author":
        users = User.objects.filter(username__in=[value for value in values if value is not None])
        named = {user.username: display_name(user) for user in users}
    missing = {"tag": _("no tag"), "recipe": _("own script")}.get(by.key, _("not set"))
    return {value: missing if value is None else named.get(value, value) for value in values}


def _is_measured(column: Field) -> bool:
    return column.key in MEASURED or column.key.startswith((*OF_SERIES, EPOCH, BEST, PARAMETER))


def _value_of(by: Field) -> Expression | F | Subquery:
    """Return the expression of what groups are named by. A run is in a group for each of its tags."""
    if by.key == "tag":
        return F("tags__name")
    return ParameterJson(by.key.removeprefix(PARAMETER)) if by.kind is Kind.PARAMETER else by.expression()


def _text(stored: object) -> str | None:
    return str(stored) if stored not in (None, "") else None


def _parameter(stored: str | None) -> str | None:
    """Return the value that a group of a parameter is named by: 1 and 1.0 are one, and an empty text is none.

    Texts are as `ParameterText` has them, so that a search finds the runs.
    """
    value, *_again = json.loads(stored or "[null]")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        try:
            return f"{float(value):.12g}"
        except OverflowError:
            return str(value)
    # As the database writes what is neither a number nor a text.
    separators = (", ", ": ") if connection.vendor == "postgresql" else (",", ":")
    return _text(value if isinstance(value, str) or value is None else json.dumps(value, separators=separators))


def _in_order(groups: list[Gathered], by: Field, order: Order) -> list[Gathered]:
    """Return groups in order of the column's mean, or of the values as people count; those without one come last."""
    sorted_by = order.field
    falling = sorted_by is not None and sorted_by.key == by.key and order.descending
    named = [group for group in groups if group.value is not None]
    named.sort(key=lambda group: _place(group.value or "", by), reverse=falling)
    in_order = named + [group for group in groups if group.value is None]
    if sorted_by is None or sorted_by.key == by.key or not _is_measured(sorted_by):
        return in_order
    means = {group.value: spread_of(group, sorted_by).mean for group in groups}
    having = [group for group in in_order if means[group.value] is not None]
    having.sort(key=lambda group: means[group.value] or 0.0, reverse=order.descending)
    return having + [group for group in in_order if means[group.value] is None]


def _place(value: str, by: Field) -> tuple[int, float, tuple[object, ...]]:
    return (0, list(RunState).index(RunState(value)), ()) if by.key == "state" else _counted(value)


def _counted(text: str) -> tuple[int, float, tuple[object, ...]]:
    """Return the key that sorts numbers by their size, before all texts."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    return (0, number, ()) if math.isfinite(number) else (1, 0.0, natural_key(text))
