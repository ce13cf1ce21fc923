"""Tunes Python's cyclic garbage collector for a supervisor. No Django, no torch."""

from __future__ import annotations

import gc

# Allocations between two collections of the youngest generation, and the thresholds of the older generations.
COLLECT_EVERY = (100_000, 20, 100)


def collect_rarely() -> None:
    """Collect cycles less often than by default, which would take half of the time of a burst.

    Records, events and rows are not part of cycles: reference counting frees them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)
