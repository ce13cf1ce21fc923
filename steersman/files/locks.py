"""POSIX record locks, which show at once which process of a host is alive.

`lockf` instead of `flock`, because forked DataLoader workers would inherit the latter, and the lock would outlive its
process.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class HeldLock:
    """A lock held until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note(self, text: str) -> None:
        """Write the holder of the lock into its file by this descriptor: closing another would release the lock."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def try_lock(path: Path) -> HeldLock | None:
    """Take the lock at `path`, None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return HeldLock(descriptor)
