"""The tables of a comparison: parameters that differ, and metrics with the best values marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Any

from django.utils.translation import gettext as _

from runs.models import Axis, Run
from runs.portal.compare.grouping import MISSING
from runs.portal.compare.metrics import BEST_OF, Measured, epoch_names, low_is_good, series_names
from runs.protocol.nonfinite import WRITTEN
from runs.protocol.series_names import NaturalKey, natural_key


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table. `text` is shown if it is not a number; `is_best` marks the best of its line.

    `delta` is the difference from the baseline; `is_better` says whether it is an improvement, None if the metric's
    name does not show it. `differs` marks a parameter whose value in the baseline is different. In a column of several
    runs `number` is their mean and `spread` their standard deviation.
    """

    number: float | None = None
    text: str = ""
    is_best: bool = False
    delta: float | None = None
    is_better: bool | None = None
    differs: bool = False
    spread: float | None = None


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One line of a table: a name, the kind of value (the last, the lowest), and a cell for each column."""

    name: str
    part: str
    cells: list[Cell]


def metric_lines(
    columns: Sequence[Sequence[Run]], found: dict[int, Measured], baseline: int | None = None
) -> list[CompareRow]:
    """Return a line for the last value of each metric, and for the best one of usual epoch metrics.

    A column is a run, or the runs of a group. `baseline` is the index of the column with which the others are compared.
    """
    own = [[found[run.pk] for run in column] for column in columns]
    lines = []
    for name in epoch_names(found):
        lines.append(_line(name, _("last"), [[one.last_epoch.get(name) for one in column] for column in own], baseline))
        if name in BEST_OF:
            best = [[one.best_epoch.get(name) for one in column] for column in own]
            lines.append(_line(name, _("lowest") if low_is_good(name) else _("highest"), best, baseline))
    for name in series_names(found, Axis.STEP):
        lines.append(_line(name, _("last"), [[_latest(one, name) for one in column] for column in own], baseline))
    return lines


def _latest(measured: Measured, name: str) -> float | str | None:
    point = measured.series.get(name)
    return None if point is None else point.last_nonfinite or point.last_value


def _line(name: str, part: str, values: Sequence[Sequence[Any]], baseline: int | None) -> CompareRow:
    low = low_is_good(name)
    cells = _marked([_cell_of(column) for column in values], low)
    base = cells[baseline].number if baseline is not None else None
    if base is not None:
        cells = [cell if place == baseline else _against(cell, base, low) for place, cell in enumerate(cells)]
    return CompareRow(name, part, cells)


def _against(cell: Cell, base: float, low: bool | None) -> Cell:
    if cell.number is None:
        return cell
    delta = cell.number - base
    return replace(cell, delta=delta, is_better=None if low is None or delta == 0 else (delta < 0) == low)


def _marked(cells: list[Cell], low: bool | None) -> list[Cell]:
    numbers = [cell.number for cell in cells if cell.number is not None]
    if low is None or len(numbers) < 2 or min(numbers) == max(numbers):
        return cells
    best = min(numbers) if low else max(numbers)
    return [replace(cell, is_best=cell.number == best) for cell in cells]


def _cell_of(values: Sequence[Any]) -> Cell:
    numbers = [value for value in values if _is_number(value)]
    if len(values) == 1 or not numbers:
        return _cell(next((value for value in values if value is not None), None))
    return Cell(number=fmean(numbers), spread=pstdev(numbers) if len(numbers) > 1 else None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> Cell:
    return (
        Cell(number=value) if _is_number(value) else Cell(text="" if value is None else WRITTEN.get(value, str(value)))
    )


def wins_of(lines: Sequence[CompareRow], columns: int) -> list[int]:
    """Return the number of lines in which each column has the best value."""
    return [sum(line.cells[place].is_best for line in lines) for place in range(columns)]


def parameter_lines(
    columns: Sequence[Sequence[Run]], baseline: int | None = None
) -> tuple[list[CompareRow], list[tuple[str, str]]]:
    """Return the parameters that differ, with a cell for each column, and those that are equal in all runs."""
    settings = [[_settings(run) for run in column] for column in columns]
    names = dict.fromkeys(name for column in settings for of_run in column for name in of_run)
    differing: list[CompareRow] = []
    equal: list[tuple[str, str]] = []
    for name in names:
        values = [{of_run.get(name, MISSING) for of_run in column} for column in settings]
        if len(set().union(*values)) == 1:
            equal.append((name, next(iter(values[0]))))
            continue
        texts = [one.pop() if len(one) == 1 else _("%(count)d values") % {"count": len(one)} for one in values]
        base = None if baseline is None else texts[baseline]
        differing.append(
            CompareRow(name, "", [Cell(text=text, differs=base is not None and text != base) for text in texts])
        )
    return differing, equal


def _settings(run: Run) -> dict[str, str]:
    about = {
        _("recipe"): run.recipe.spec if run.recipe else _("own script"),
        _("device"): run.device or MISSING,
        _("seed"): str(run.seed),
    }
    return about | {name: str(value) for name, value in sorted(run.parameters.items(), key=_by_name)}


def _by_name(item: tuple[str, Any]) -> NaturalKey:
    return natural_key(item[0])
