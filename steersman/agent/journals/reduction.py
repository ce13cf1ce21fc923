"""Reduces the values of several ranks to one: a mean, a sum of speeds, the slowest time. No Django, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

SPEED_SUFFIX = "_per_second"
STEP_MS, DATA_WAIT_FRACTION = "speed/step_ms", "speed/data_wait_fraction"
# The time of a step in which a rank computes, before it waits for the others.
OWN_MS = "speed/own_ms"
# Norms of layers, see `steersman.layers`: each rank reports the norm of its part times the root of the number of parts.
LAYERS = "layers/"
# The training waits for the slowest rank, so its time counts.
SLOWEST = (STEP_MS, DATA_WAIT_FRACTION, OWN_MS)


def reduce_values(name: str, values: Sequence[float]) -> float:
    """Return the value of series `name` over the ranks' `values`; NaN if one of them is NaN."""
    first = values[0]
    if name.startswith("speed/") and name.endswith(SPEED_SUFFIX):
        return _sum(values)
    # A value that is the same on all ranks stays bit-identical.
    if all(value == first for value in values):
        return first
    if name in SLOWEST:
        return math.nan if any(math.isnan(value) for value in values) else max(values)
    if name.startswith(LAYERS):
        return math.hypot(*values) / math.sqrt(len(values))
    return _sum(values) / len(values)


def _sum(values: Sequence[float]) -> float:
    if not all(math.isfinite(value) for value in values):
        return sum(values)
    try:
        # `fsum` is exact, so the order of the ranks does not matter.
        return math.fsum(values)
    except OverflowError:
        return sum(values)
