"""Which checkpoints of an attempt are kept. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The last two, so that there is another one if the newest is damaged.
LAST = 2
HOURS = 24
HOUR_S = 3600.0
# Steps of which the newest checkpoint is kept, and how often. A checkpoint is good 100 steps later
# (`runs.recording.checkpoints`), and each rollback for the same fault goes farther back, so several are needed.
STRETCH_STEPS = 50
STRETCHES = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint on disk; `saved_at` in seconds since the epoch."""

    folder: Path
    reason: str
    saved_at: float
    step: int


def dropped(checkpoints: Sequence[Kept]) -> list[Kept]:
    """Return those of `checkpoints`, oldest first, that no rule keeps.

    Kept are the last two, the best, all that were named or saved at a stop, of each hour the newest, for the newest 24
    hours that have one, and of each 50 steps the newest, for the newest 250 steps.
    """
    newest_of_hour = {int(each.saved_at // HOUR_S): each for each in checkpoints}
    hours = sorted(newest_of_hour)[-HOURS:]
    newest_of_stretch = {each.step // STRETCH_STEPS: each for each in checkpoints}
    stretch = checkpoints[-1].step // STRETCH_STEPS if checkpoints else 0
    best = [each for each in checkpoints if each.reason == "best"][-1:]
    kept = [
        *checkpoints[-LAST:],
        *best,
        *(each for each in checkpoints if each.reason in ("named", "stop")),
        *(newest_of_hour[hour] for hour in hours),
        # A rollback leaves checkpoints of later steps behind.
        *(each for place, each in newest_of_stretch.items() if stretch - STRETCHES < place <= stretch),
    ]
    return [each for each in checkpoints if each not in kept]
