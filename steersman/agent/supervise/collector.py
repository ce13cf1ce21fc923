"""How often Python looks for circles of objects in a supervisor. No Django, no torch."""

from __future__ import annotations

import gc

# Objects made between two looks at the newest ones, and how many of those come before a look at older ones.
COLLECT_EVERY = (100_000, 20, 100)


def collect_rarely() -> None:
    """Look for circles of objects less often than Python does: half of the time of a burst would go into that.

    Records, events and rows are in none: they are freed as soon as nothing names them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)
