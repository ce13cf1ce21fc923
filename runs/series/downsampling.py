"""Turns rows of points or summaries into the chart of a page. Does not use the database."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runs.series.packing.chunks import HAS_INF, HAS_NAN, Buckets, Floats, Ints, join_buckets, merge

STEP = "step"

Places = NDArray[np.intp]


def as_chart(rows: Buckets, axis: str, buckets: int, digits: int | None = None) -> dict[str, Any]:
    """Return the chart (see `charts`) of `rows` in the order of logging, merged to at most `buckets`.

    With `digits`, the numbers of merged rows are rounded to that many significant digits, and `last` is omitted. Points
    are never rounded.
    """
    return as_charts([(rows, buckets)], axis, digits)[0]


def merged_rows(rows: Buckets, axis: str, buckets: int) -> Buckets:
    """Return `rows` ordered by the axis, merged to at most `buckets`."""
    rows, starts = _ordered(rows, axis, buckets)
    return rows if len(starts) == len(rows) else merge(rows, starts)


def as_charts(parts: Sequence[tuple[Buckets, int]], axis: str, digits: int | None = None) -> list[dict[str, Any]]:
    """Return charts of several (rows, buckets), merged together: hundreds of short ones cost little more than one."""
    charts: list[dict[str, Any]] = []
    merged: list[tuple[dict[str, Any], Buckets, Places]] = []
    for given, buckets in parts:
        rows, starts = _ordered(given, axis, buckets)
        total = int(rows.counts.sum())
        is_raw = len(starts) == total
        chart: dict[str, Any] = {"axis": axis, "raw": is_raw}
        charts.append(chart)
        if is_raw:
            chart["steps"] = rows.last_steps.tolist()
            chart["times"] = (rows.last_ms / 1000).tolist()
            chart["values"] = without_nonfinite(rows.last)
            chart["nonfinite"] = named_nonfinite(rows.kinds)
            chart["count"] = total
        else:
            merged.append((chart, rows, starts))
    if merged:
        _fill(merged, digits)
    return charts


def _ordered(rows: Buckets, axis: str, buckets: int) -> tuple[Buckets, Places]:
    """Return the rows ordered by the axis, and where each of at most `buckets` begins."""
    x = rows.last_steps if axis == STEP else rows.last_ms
    if not len(x):
        return rows, np.zeros(0, np.intp)
    if np.any(x[1:] < x[:-1]):
        order = np.argsort(x, kind="stable")
        rows, x = rows.part(order), x[order]
    places = x
    if len(x) > buckets:
        places = ((x - x[0]) / (x[-1] - x[0] + 1) * buckets).astype(np.int64)
    return rows, np.flatnonzero(np.append(True, places[1:] != places[:-1]))


def _fill(merged: Sequence[tuple[dict[str, Any], Buckets, Places]], digits: int | None) -> None:
    """Fill each chart with the columns of its rows, merged at its starts."""
    before = [0, *accumulate(len(rows) for _, rows, _ in merged)]
    starts = np.concatenate([own + first for (_, _, own), first in zip(merged, before, strict=False)])
    rows = merge(join_buckets([own for _, own, _ in merged]), starts)
    numbers = {"min": rows.minimum, "max": rows.maximum, "mean": rows.mean}
    if digits is None:
        numbers["last"] = rows.last
    else:
        numbers = dict(zip(numbers, _rounded(np.stack(list(numbers.values())), digits), strict=True))
    all_finite = not rows.kinds.any()
    columns = {
        "first_steps": rows.first_steps.tolist(),
        "steps": rows.last_steps.tolist(),
        "times": (rows.last_ms / 1000).tolist(),
        **{name: column.tolist() if all_finite else without_nonfinite(column) for name, column in numbers.items()},
    }
    counts: list[int] = rows.counts.tolist()
    end = 0
    for chart, _, own in merged:
        part = slice(end, end := end + len(own))
        odd = np.flatnonzero(rows.kinds[part]) + part.start
        chart |= {name: column[part] for name, column in columns.items()}
        chart["nonfinite"] = _named(odd - part.start, rows.kinds[odd])
        chart["nonfinite_steps"] = rows.odd_steps[odd].tolist()
        chart["nonfinite_counts"] = rows.nonfinite[odd].tolist()
        chart["counts"] = counts[part]
        chart["count"] = sum(counts[part])
        chart["buckets"] = len(own)


def _rounded(column: Floats, digits: int) -> Floats:
    """Return the numbers rounded to significant digits: the nearest number with a short decimal."""
    size = np.abs(column)
    # Beyond these, powers of ten are not exact: the smallest numbers keep all their digits, the largest stay as they
    # are.
    usual = np.isfinite(column) & (size > 1e-15) & (size < 1e15)
    given = np.where(usual, column, 1.0)
    power = digits - 1 - np.floor(np.log10(np.abs(given)))
    scale = 10.0 ** np.abs(power)
    rounded = np.where(power >= 0, np.rint(given * scale) / scale, np.rint(given / scale) * scale)
    return np.where(usual, rounded, column)


def without_nonfinite(column: Floats) -> list[float | None]:
    numbers: list[float | None] = column.tolist()
    finite = np.isfinite(column)
    if not finite.all():
        for place in np.flatnonzero(~finite):
            numbers[place] = None
    return numbers


def named_nonfinite(kinds: Ints) -> list[list[Any]]:
    odd = np.flatnonzero(kinds)
    return _named(odd, kinds[odd])


def _named(places: Places, kinds: Ints) -> list[list[Any]]:
    return [[place, _name(kind)] for place, kind in zip(places.tolist(), kinds.tolist(), strict=True)]


def _name(kinds: int) -> str:
    """Return the name of a value that is not finite; NaN if a bucket has several kinds."""
    if kinds & HAS_NAN:
        return "nan"
    return "inf" if kinds & HAS_INF else "-inf"
