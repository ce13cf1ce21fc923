"""The tables of a comparison: parameters that differ, and metrics with the best values marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from runs.models import Axis, Run
from runs.portal.compare.metrics import BEST_OF, Measured, epoch_names, low_is_good, series_names
from runs.protocol.nonfinite import WRITTEN
from runs.protocol.series_names import NaturalKey, natural_key


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table. `text` is shown if it is not a number; `is_best` marks the best of its line.

    `delta` is the difference from the baseline; `is_better` says whether it is an improvement, None if the name of the
    metric does not say so. `differs` marks a parameter that the baseline has another value of.
    """

    number: float | None = None
    text: str = ""
    is_best: bool = False
    delta: float | None = None
    is_better: bool | None = None
    differs: bool = False


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One line of a table: a name, which of its values is shown (the last, the lowest), and a cell for each run."""

    name: str
    part: str
    cells: list[Cell]


def metric_lines(runs: Sequence[Run], found: dict[int, Measured], baseline: int | None = None) -> list[CompareRow]:
    """Return a line for the last value of each metric, and for the best one of usual measures of epochs.

    `baseline` is the place of the run that the others are compared with.
    """
    lines = []
    for name in epoch_names(found):
        lines.append(_line(name, _("last"), [found[run.pk].last_epoch.get(name) for run in runs], baseline))
        if name in BEST_OF:
            values = [found[run.pk].best_epoch.get(name) for run in runs]
            lines.append(_line(name, _("lowest") if low_is_good(name) else _("highest"), values, baseline))
    for name in series_names(found, Axis.STEP):
        points = [found[run.pk].series.get(name) for run in runs]
        latest = [point and (point.last_nonfinite or point.last_value) for point in points]
        lines.append(_line(name, _("last"), latest, baseline))
    return lines


def _line(name: str, part: str, values: Sequence[Any], baseline: int | None) -> CompareRow:
    low = low_is_good(name)
    cells = _marked([_cell(value) for value in values], low)
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


def _cell(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(number=value) if is_number else Cell(text="" if value is None else WRITTEN.get(value, str(value)))


def wins_of(lines: Sequence[CompareRow], columns: int) -> list[int]:
    """Return of how many lines each column has the best value."""
    return [sum(line.cells[place].is_best for line in lines) for place in range(columns)]


def parameter_lines(runs: Sequence[Run], baseline: int | None = None) -> tuple[list[CompareRow], list[tuple[str, str]]]:
    """Return the parameters that differ, with a cell for each run, and those that are equal in all runs."""
    settings = [_settings(run) for run in runs]
    differing: list[CompareRow] = []
    equal: list[tuple[str, str]] = []
    for name in dict.fromkeys(name for of_run in settings for name in of_run):
        texts = [of_run.get(name, "–") for of_run in settings]
        if len(set(texts)) > 1:
            base = None if baseline is None else texts[baseline]
            cells = [Cell(text=text, differs=base is not None and text != base) for text in texts]
            differing.append(CompareRow(name, "", cells))
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
