"""Numbers that JSON cannot represent: replaced by null, and named in another field."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

# The notation for people, as on the page of a run.
WRITTEN = {"nan": "NaN", "inf": "∞", "-inf": "−∞"}


def split_nonfinite(values: Iterable[float]) -> tuple[list[float | None], list[tuple[int, str]]]:
    """Return values for JSON (null if not finite), and the indices and names of the replaced ones."""
    given = list(values)
    if math.isfinite(sum(given)):
        # The sum would not be finite if one value were not. The list is not shared, so it needs no copy for its type.
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
