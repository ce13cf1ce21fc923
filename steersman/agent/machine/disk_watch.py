"""Warns if the disks to which a training writes are nearly full. Imports neither Django nor torch.

The warning is logged on this host at once, because a database on the same disk may not be able to store it.
"""

from __future__ import annotations

import logging
import shutil
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from steersman.messages.disks import DiskSpace
from steersman.messages.reports import Line

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0


class DiskWatch:
    """Reads the free space of the file systems of `folders`. One thread calls `look`; the other methods never wait."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._look_at = 0.0
        self._is_full = False
        # Whether the record side has stored that there is room.
        self._is_well_stored = False
        self._untold: deque[DiskSpace] = deque(maxlen=1)
        self._lines: deque[Line] = deque(maxlen=100)

    def look(self, now: float) -> None:
        """Read the free space if that is due; `now` in seconds of a monotonic clock."""
        if now < self._look_at:
            return
        self._look_at = now + INTERVAL_S
        known = [space for folder in self._folders if (space := _space(folder)) is not None]
        if not known:
            return
        space = min(known, key=lambda each: each.scarcity)
        if not self._is_full and space.is_full:
            self._is_full, self._is_well_stored = True, False
            self._tell(f"The disk is nearly full: {space}.", "warning")
        elif self._is_full and space.is_well:
            self._is_full = False
            self._tell(f"The disk has room again: {space}.", "info")
        if not self._is_well_stored:
            self._untold.append(space)

    def take_space(self) -> DiskSpace | None:
        """Return the free space if it has not been reported yet, and has to be."""
        return self._untold.popleft() if self._untold else None

    def take_lines(self) -> list[Line]:
        """Return the messages for the console since the last call."""
        return [self._lines.popleft() for _ in range(len(self._lines))]

    def settle(self, space: DiskSpace) -> None:
        """Record that a report with this free space is stored."""
        self._is_well_stored = space.is_well and not self._is_full

    def attach(self) -> None:
        """Report the free space again: the record side may have lost what it had stored."""
        self._is_well_stored = False

    def _tell(self, text: str, level: str) -> None:
        logger.warning("%s", text)
        self._lines.append(Line(text, level))


def _space(folder: Path) -> DiskSpace | None:
    try:
        found = shutil.disk_usage(folder)
    except OSError:
        # There is no checkpoint yet, or the disk is unavailable.
        return None
    return DiskSpace(found.free, found.total)
