"""Whether a process of this host lives, by its number alone. Standard library only."""

from __future__ import annotations

import os


def is_alive(pid: int) -> bool:
    """Return whether there is a process of this number, whoever owns it. Numbers are given again."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
