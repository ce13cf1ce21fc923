"""Checks whether a training has recorded anything, and returns a warning if it has not. No Django, no torch."""

from __future__ import annotations

from pathlib import Path

from steersman.agent.journals.tail import JournalTail
from steersman.files.journal import segment_path
from steersman.messages.reports import Position

NEVER_ATTACHED = (
    "Nothing was recorded: no process of this training called attach(). Put `run = steersman.attach()` into the "
    "script, and `run.log(step, loss=loss)` into its loop."
)
NEVER_LOGGED = (
    "Nothing was recorded: the training attached to its run and logged nothing. Put `run.log(step, loss=loss)` into "
    "its loop, in the process that called `run = steersman.attach()`; with several ranks, on rank 0."
)


def reproach(folder: Path) -> str:
    """Return the warning about an attempt that has ended without a record, "" if it has any."""
    segments = sorted(folder.glob("journal-*.bin"))
    if not segments:
        return NEVER_ATTACHED
    ranks = {int(path.stem.split("-")[1]) for path in segments}
    return "" if any(_has_told(folder, rank) for rank in ranks) else NEVER_LOGGED


def _has_told(folder: Path, rank: int) -> bool:
    if not segment_path(folder, rank, 0).exists():
        # Only a full segment has a successor, and its records are stored.
        return True
    tail, position = JournalTail(folder, rank, Position()), Position()
    while True:
        read = tail.read(ended=True, position=position)
        if any(record.is_recording for record in read.records):
            return True
        if read.position == position:
            return False
        position = read.position
