"""Checks whether a process of this host is alive, by its number. Standard library only."""

from __future__ import annotations

import os


def is_alive(pid: int) -> bool:
    """Return whether a process with this number exists, of any owner. The kernel reuses numbers."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
