"""Numbers that JSON cannot carry: null in their place, and named beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

# How a reader sees them, as on the page of a run.
WRITTEN = {"nan": "NaN", "inf": "∞", "-inf": "−∞"}


def split_nonfinite(values: Iterable[float]) -> tuple[list[float | None], list[tuple[int, str]]]:
    """Return values fit for JSON (null where not finite) and the names of what was replaced."""
    given = list(values)
    if math.isfinite(sum(given)):
        # One that is not finite would have made the sum so. The list is ours: it need not be copied for its type.
        return cast("list[float | None]", given), []
    column: list[float | None] = []
    replaced: list[tuple[int, str]] = []
    for index, value in enumerate(given):
        if math.isfinite(value):
            column.append(value)
        else:
            column.append(None)
            replaced.append((index, name_nonfinite(value)))
    return column, replaced


def name_nonfinite(value: float) -> str:
    """Return "nan", "inf" or "-inf"."""
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"
