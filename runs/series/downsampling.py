"""From rows of points or summaries to the chart that a page draws. Knows no database."""

from __future__ import annotations

from typing import Any

import numpy as np

from runs.series.chunks import HAS_INF, HAS_NAN, Buckets, Floats, Ints, merge

STEP = "step"


def as_chart(rows: Buckets, axis: str, buckets: int, digits: int | None = None) -> dict[str, Any]:
    """Return the chart (see `charts`) of `rows` in the order of logging, merged to at most `buckets`.

    With `digits` the numbers of merged rows are rounded to so many, and `last` is left out. Points are never rounded.
    """
    x = rows.last_steps if axis == STEP else rows.last_ms
    if len(x) and np.any(x[1:] < x[:-1]):
        order = np.argsort(x, kind="stable")
        rows, x = rows.part(order), x[order]
    places = x
    if len(x) > buckets:
        places = ((x - x[0]) / (x[-1] - x[0] + 1) * buckets).astype(np.int64)
    starts = np.flatnonzero(np.append(True, places[1:] != places[:-1])) if len(x) else np.zeros(0, np.intp)
    total = int(rows.counts.sum())
    if len(starts) == total:
        return {
            "axis": axis,
            "raw": True,
            "steps": rows.last_steps.tolist(),
            "times": (rows.last_ms / 1000).tolist(),
            "values": without_nonfinite(rows.last),
            "nonfinite": named_nonfinite(rows.kinds),
            "count": total,
        }
    rows = merge(rows, starts)
    columns = {"min": rows.minimum, "max": rows.maximum, "mean": rows.mean}
    if digits is None:
        columns["last"] = rows.last
    else:
        columns = {name: _rounded(column, digits) for name, column in columns.items()}
    return {
        "axis": axis,
        "raw": False,
        "first_steps": rows.first_steps.tolist(),
        "steps": rows.last_steps.tolist(),
        "times": (rows.last_ms / 1000).tolist(),
        **{name: without_nonfinite(column) for name, column in columns.items()},
        "nonfinite": named_nonfinite(rows.kinds),
        "nonfinite_counts": rows.nonfinite[rows.kinds != 0].tolist(),
        "counts": rows.counts.tolist(),
        "count": total,
        "buckets": len(rows),
    }


def _rounded(column: Floats, digits: int) -> Floats:
    """Return the numbers with so many significant digits: the nearest that a short decimal writes."""
    size = np.abs(column)
    # Beyond these no power of ten is exact: the smallest keep all their digits, and the largest have no more to lose.
    usual = np.isfinite(column) & (size > 1e-15) & (size < 1e15)
    given = np.where(usual, column, 1.0)
    power = digits - 1 - np.floor(np.log10(np.abs(given)))
    scale = 10.0 ** np.abs(power)
    rounded = np.where(power >= 0, np.rint(given * scale) / scale, np.rint(given / scale) * scale)
    return np.where(usual, rounded, column)


def without_nonfinite(column: Floats) -> list[float | None]:
    numbers: list[float | None] = column.tolist()
    for place in np.flatnonzero(~np.isfinite(column)):
        numbers[place] = None
    return numbers


def named_nonfinite(kinds: Ints) -> list[list[Any]]:
    return [[int(place), _name(int(kinds[place]))] for place in np.flatnonzero(kinds)]


def _name(kinds: int) -> str:
    """Return the name of what was not finite; NaN first where a bucket held several."""
    if kinds & HAS_NAN:
        return "nan"
    return "inf" if kinds & HAS_INF else "-inf"
