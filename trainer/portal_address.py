"""The address of the portal of this data folder, as the serving process has stored it. Imports no web server."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

from steersman.files.processes import is_alive

SERVE_LOCK = "serve.lock"


def served_line(command: str, address: str) -> str:
    """Return the line that the serving process writes into its lock file; `address` ends with a slash."""
    return f"{command}, process {os.getpid()}, {address}"


def portal_here(data: Path) -> str:
    """Return the address of the portal, with a slash at the end; "" if it is unknown.

    It is the public address if it is set, otherwise that of the server that runs on this machine for the data folder
    `data`.
    """
    if settings.STEERSMAN_PUBLIC_URL:
        return f"{settings.STEERSMAN_PUBLIC_URL}/"
    try:
        words = (data / SERVE_LOCK).read_text().split(", ")
        number, address = int(words[-2].removeprefix("process ")), words[-1].strip()
    except (OSError, ValueError, IndexError):
        return ""
    # The lock itself is not tried, because a portal that starts at that moment would find it taken.
    return address if is_alive(number) else ""
