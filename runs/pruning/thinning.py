"""The points that remain of a thinned series. Imports NumPy, not Django."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from runs.series.packing.chunks import HAS_INF, HAS_MINUS_INF, HAS_NAN, Points, as_buckets, join_points

# Points within this many steps are thinned together. Samples of the machine are thinned by time.
STRIDE_STEPS = 100
STRIDE_MS = 100_000


def thin(points: Points, *, by_time: bool, is_begin: bool = True) -> Points:
    """Return the remaining points of those that were logged one after another, in their order.

    Of each hundred steps (with `by_time`, each hundred seconds) these are the last point, the lowest, the highest, and
    the first of each kind that is not finite, so that no spike is lost. The very first point stays if `is_begin`,
    because from its step on, a later attempt replaced the points of earlier ones. Points that were thinned before stay
    as they are.
    """
    if not len(points):
        return points
    places = points.times_ms // STRIDE_MS if by_time else points.steps // STRIDE_STEPS
    # Stretches of the same hundred. Steps may decrease, as in a loop over folds.
    begins = np.concatenate([[True], places[1:] != places[:-1]])
    stretches = np.cumsum(begins) - 1
    kept = np.concatenate([begins[1:], [True]])
    kept[0] |= is_begin
    rows = as_buckets(points)
    kept[_firsts(stretches, np.where(rows.kinds == 0, points.values, np.inf))] = True
    kept[_firsts(stretches, -np.where(rows.kinds == 0, points.values, -np.inf))] = True
    for kind in (HAS_NAN, HAS_INF, HAS_MINUS_INF):
        found = np.flatnonzero(rows.kinds == kind)
        kept[found[np.unique(stretches[found], return_index=True)[1]]] = True
    return points.part(kept)


def thinned(parts: Iterable[Points], *, by_time: bool) -> Iterator[Points]:
    """Yield the remaining points of a long series that comes in parts, in bounded memory."""
    held: Points | None = None
    is_begin = True
    for part in parts:
        found = thin(part if held is None else join_points([held, part]), by_time=by_time, is_begin=is_begin)
        places = found.times_ms // STRIDE_MS if by_time else found.steps // STRIDE_STEPS
        # The last hundred may continue in the next part.
        ends = np.flatnonzero(places != places[-1])
        split = int(ends[-1]) + 1 if len(ends) else 0
        if split:
            yield found.part(slice(0, split))
            is_begin = False
        held = found.part(slice(split, None))
    if held is not None and len(held):
        yield held


def _firsts(stretches: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the index of the lowest value of each stretch, the first of equal ones."""
    order = np.lexsort((values, stretches))
    first: NDArray[np.intp] = order[np.unique(stretches[order], return_index=True)[1]]
    return first
