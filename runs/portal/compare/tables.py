"""The tables of a comparison: parameters that differ, and metrics with the best of each line marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from runs.models import Axis, Run
from runs.portal.compare.metrics import BEST_OF, Measured, epoch_names, low_is_good, series_names
from runs.protocol.nonfinite import WRITTEN
from runs.protocol.series_names import NaturalKey, natural_key


@dataclass(frozen=True, slots=True)
class Cell:
    """One value of a table. `text` is shown if it is not a number; `is_best` marks the best of its line."""

    number: float | None = None
    text: str = ""
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class CompareRow:
    """One line of a table: a name, which of its values is shown (the last, the lowest), and a cell for each run."""

    name: str
    part: str
    cells: list[Cell]


def metric_lines(runs: Sequence[Run], found: dict[int, Measured]) -> list[CompareRow]:
    """Return a line for the last value of each metric, and for the best one of usual measures of epochs."""
    lines = []
    for name in epoch_names(found):
        lines.append(_last_line(name, [found[run.pk].last_epoch.get(name) for run in runs]))
        if name in BEST_OF:
            values = [found[run.pk].best_epoch.get(name) for run in runs]
            lowest = bool(low_is_good(name))
            lines.append(CompareRow(name, _("lowest") if lowest else _("highest"), _marked(_cells(values), lowest)))
    for name in series_names(found, Axis.STEP):
        points = [found[run.pk].series.get(name) for run in runs]
        lines.append(_last_line(name, [point and (point.last_nonfinite or point.last_value) for point in points]))
    return lines


def _last_line(name: str, values: Sequence[Any]) -> CompareRow:
    return CompareRow(name, _("last"), _marked(_cells(values), low_is_good(name)))


def _marked(cells: list[Cell], low: bool | None) -> list[Cell]:
    numbers = [cell.number for cell in cells if cell.number is not None]
    if low is None or len(numbers) < 2 or min(numbers) == max(numbers):
        return cells
    best = min(numbers) if low else max(numbers)
    return [Cell(cell.number, cell.text, cell.number == best) for cell in cells]


def _cells(values: Sequence[Any]) -> list[Cell]:
    return [_cell(value) for value in values]


def _cell(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(number=value) if is_number else Cell(text="" if value is None else WRITTEN.get(value, str(value)))


def parameter_lines(runs: Sequence[Run]) -> tuple[list[CompareRow], list[tuple[str, str]]]:
    """Return the parameters that differ, with a cell for each run, and those that are equal in all runs."""
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
