"""Which checkpoints of an attempt are kept. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The last two, so that there is another one if the newest is damaged.
LAST = 2
HOURS = 24
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint on disk; `saved_at` in seconds since the epoch."""

    folder: Path
    reason: str
    saved_at: float


def dropped(checkpoints: Sequence[Kept]) -> list[Kept]:
    """Return those of `checkpoints`, oldest first, that no rule keeps.

    Rules keep the last two, the best, all that were named or saved at a stop, and the newest of each hour, for the
    newest 24 hours that have one.
    """
    newest_of_hour = {int(each.saved_at // HOUR_S): each for each in checkpoints}
    hours = sorted(newest_of_hour)[-HOURS:]
    best = [each for each in checkpoints if each.reason == "best"][-1:]
    kept = [
        *checkpoints[-LAST:],
        *best,
        *(each for each in checkpoints if each.reason in ("named", "stop")),
        *(newest_of_hour[hour] for hour in hours),
    ]
    return [each for each in checkpoints if each not in kept]
