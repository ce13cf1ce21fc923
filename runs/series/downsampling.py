"""From rows of points or summaries to the chart that a page draws. Knows no database."""

from __future__ import annotations

from typing import Any

import numpy as np

from runs.series.chunks import HAS_INF, HAS_NAN, Buckets, Floats, Ints, merge

STEP = "step"


def as_chart(rows: Buckets, axis: str, buckets: int) -> dict[str, Any]:
    """Return the chart (see `charts`) of `rows` in the order of logging, merged to at most `buckets`."""
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
            "values": _without_nonfinite(rows.last),
            "nonfinite": _named(rows.kinds),
            "count": total,
        }
    rows = merge(rows, starts)
    return {
        "axis": axis,
        "raw": False,
        "first_steps": rows.first_steps.tolist(),
        "steps": rows.last_steps.tolist(),
        "times": (rows.last_ms / 1000).tolist(),
        "min": _without_nonfinite(rows.minimum),
        "max": _without_nonfinite(rows.maximum),
        "mean": _without_nonfinite(rows.mean),
        "last": _without_nonfinite(rows.last),
        "nonfinite": _named(rows.kinds),
        "count": total,
        "buckets": len(rows),
    }


def _without_nonfinite(column: Floats) -> list[float | None]:
    numbers: list[float | None] = column.tolist()
    for place in np.flatnonzero(~np.isfinite(column)):
        numbers[place] = None
    return numbers


def _named(kinds: Ints) -> list[list[Any]]:
    return [[int(place), _name(int(kinds[place]))] for place in np.flatnonzero(kinds)]


def _name(kinds: int) -> str:
    """Return the name of what was not finite; NaN first where a bucket held several."""
    if kinds & HAS_NAN:
        return "nan"
    return "inf" if kinds & HAS_INF else "-inf"
