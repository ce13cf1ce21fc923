"""Limits a journal: a training process leaves out steps while its supervisor cannot store its records.

Segments that are stored are removed. Those that remain are the spool of an outage, and a long outage must not fill the
disk. Above the bound, every 2nd step is kept, above 1.5 times the bound every 4th, above 2 times every 8th, at most
every 64th. A spool also leaves a reserve of its disk free: every 2nd step is kept while less is free, every 4th below
half of it, every 8th below a quarter. Only points are left out, and written records are not changed.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from steersman.records.kinds import DroppedRecord, NoteRecord
from steersman.records.record import Record

JOURNAL_MIB_VARIABLE = "STEERSMAN_JOURNAL_MIB"
DEFAULT_MIB = 8192
# Even without an outage, there may be two segments of 64 MiB.
SMALLEST_MIB = 256
LARGEST_EVERY = 64
# The reserve of a disk: for checkpoints, the database, and records that are always kept.
RESERVE_PART, RESERVE_BYTES = 0.02, 2 << 30
# Steps that were left out for lack of space are kept again when this many times the limit is free.
ROOM = 1.5
# A journal that is being stored has no more segments. To leave out steps of it would not make room.
SEGMENTS_WITHOUT_OUTAGE = 2
# How often to check the free space, and whether segments have been removed.
LOOK_AGAIN_S = 5.0
# The number of last steps for which the decision is remembered.
MOST_DECIDED = 256


def journal_bound_bytes(environment: Mapping[str, str]) -> int:
    """Return the bound in the environment. An invalid one is reported on standard error; the training continues."""
    text = environment.get(JOURNAL_MIB_VARIABLE, "").strip() or str(DEFAULT_MIB)
    # No disk needs more digits, and int() refuses thousands of them.
    if text.isdecimal() and len(text) <= 12 and int(text) >= SMALLEST_MIB:
        return int(text) << 20
    print(
        f"steersman: {JOURNAL_MIB_VARIABLE} takes a whole number of MiB, at least {SMALLEST_MIB}, not {text[:40]!r}: "
        f"{DEFAULT_MIB} MiB is used",
        file=sys.stderr,
    )
    return DEFAULT_MIB << 20


def every_kept(spooled: int, bound: int) -> int:
    """Return n if every n-th step is kept: 1, 2, 4, … LARGEST_EVERY, by the bytes of the journal and the bound."""
    if spooled <= bound:
        return 1
    halves_above = 2 * (spooled - bound) // bound
    return min(LARGEST_EVERY, 2 << min(halves_above, 8))


def every_kept_with(free: float, reserve: int) -> int:
    """Return n if every n-th step is kept, by the free bytes of the journal's disk and its reserve."""
    every = 1
    while free < reserve and every < LARGEST_EVERY:
        every, free = 2 * every, 2 * free
    return every


def spooled(folder: Path, rank: int) -> tuple[int, int]:
    """Return the number of segments of a rank's journal in the folder of its attempt, and their size in bytes."""
    count = total = 0
    # A supervisor may have just removed one, and an error of the disk must not end a training.
    with contextlib.suppress(OSError):
        for path in list(folder.glob(f"journal-{rank:04d}-*.bin")):
            with contextlib.suppress(OSError):
                total += path.stat().st_size
                count += 1
    return count, total


def space(folder: Path) -> tuple[int, int] | None:
    """Return the free bytes of the disk of `folder` and its reserve, None if they cannot be read."""
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        return None
    return found.free, min(RESERVE_BYTES, int(RESERVE_PART * found.total))


class Thinning:
    """Keeps one of `every` steps, with all records of that step. `left_out` counts the records of the others."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.left_out = 0
        # Values from a GPU are written later than those of the following steps.
        self._is_kept: dict[int, bool] = {}
        self._steps: deque[int] = deque()
        # The number of steps since the last one that was kept.
        self._since = -1
        self._is_in_phase = False

    def change(self, every: int) -> None:
        self.every = every
        self._is_in_phase = False

    def keeps(self, step: int) -> bool:
        """Return whether a record of this step is written."""
        is_kept = self._is_kept.get(step)
        if is_kept is None:
            is_kept = self._decide(step)
        if not is_kept:
            self.left_out += 1
        return is_kept

    def _decide(self, step: int) -> bool:
        if not self._is_in_phase and self._steps and step > self._steps[-1]:
            # The step number decides, so that all ranks keep the same steps, and their means stay complete.
            self._is_in_phase = True
            self._since = step // (step - self._steps[-1]) % self.every
        else:
            self._since = (self._since + 1) % self.every
        is_kept = self._is_kept[step] = self._since == 0
        self._steps.append(step)
        if len(self._steps) > MOST_DECIDED:
            self._is_kept.pop(self._steps.popleft(), None)
        return is_kept


class JournalBound:
    """Decides which steps one process leaves out, by the size of its journal and the free space of its disk, and writes
    the messages about it.
    """

    def __init__(self, folder: Path, rank: int, bound_bytes: int) -> None:
        self._folder = folder
        self._rank = rank
        self._bound_bytes = bound_bytes
        # By the free space alone.
        self._every_with_space = 1
        # In seconds of `time.monotonic`.
        self.look_again_at = 0.0
        # None while all steps are written.
        self.thinning: Thinning | None = None

    def look_again(self) -> list[Record]:
        """Do the same as `look`, but at most every `LOOK_AGAIN_S` seconds, and only if the result can be a new one."""
        now = time.monotonic()
        if now < self.look_again_at:
            return []
        self.look_again_at = now + LOOK_AGAIN_S
        if self.thinning is None:
            # Segments are counted only if the disk has little space: until then, the bound is checked at a new segment.
            found = space(self._folder)
            if found is None or found[0] >= found[1]:
                return []
        return self.look()

    def look(self) -> list[Record]:
        """Set `thinning` by the size of the journal and the free space; return notes about a change."""
        self.look_again_at = time.monotonic() + LOOK_AGAIN_S
        segments, size = spooled(self._folder, self._rank)
        of_size = every_kept(size, self._bound_bytes)
        free = self._look_at_space(segments)
        every, thinning = max(of_size, self._every_with_space), self.thinning
        if every == (thinning.every if thinning is not None else 1):
            return []
        told = self.note_left_out()
        if every == 1:
            self.thinning = None
            return [*told, NoteRecord(text="There is room for the journal again: from now on, every step is kept.")]
        if thinning is None:
            self.thinning = Thinning(every)
        else:
            thinning.change(every)
        why = _reached(size) if of_size == every else _left(free)
        return [*told, NoteRecord(text=f"{why}: {_kept(every)}", level="warning")]

    def _look_at_space(self, segments: int) -> int:
        """Set how many steps the free space allows; return the free bytes."""
        found = space(self._folder)
        if found is None or segments <= SEGMENTS_WITHOUT_OUTAGE:
            self._every_with_space = 1
            return 0
        free, reserve = found
        # Files that come and go must not change it every few seconds.
        with_room = min(self._every_with_space, every_kept_with(free / ROOM, reserve))
        self._every_with_space = max(every_kept_with(free, reserve), with_room)
        return free

    def note_left_out(self) -> list[Record]:
        """Return a record with the number of records left out since the last one, none if there were none."""
        if self.thinning is None or not self.thinning.left_out:
            return []
        left_out, self.thinning.left_out = self.thinning.left_out, 0
        return [DroppedRecord(records=left_out, above_bound=True)]


def _reached(size: int) -> str:
    return f"The journal has reached {max(1, size >> 20)} MiB, because the database was unavailable or is too slow"


def _left(free: int) -> str:
    return (
        f"Only {free >> 20} MiB are free on the disk of the journal, which grows because the database was unavailable "
        "or is too slow"
    )


def _kept(every: int) -> str:
    return (
        f"every {every}{'nd' if every in (2, 32) else 'th'} step is kept from here on. "
        "Epochs, outcomes of commands and the end are always kept."
    )
