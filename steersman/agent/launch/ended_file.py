"""Writes the end of an attempt to a file, so that the next supervisor can store the true end. No Django, no torch.

Only the process that started a training gets its exit status, and it may be killed before that is stored in the
database.
"""

from __future__ import annotations

from pathlib import Path

from steersman.agent.folders import write_whole
from steersman.messages.ended import Ended
from steersman.records.typed_json import Malformed, decode, encode

ENDED_FILE = "ended.json"


def record_ended(folder: Path, ended: Ended) -> None:
    """Write a file with the end of an attempt. Raises `OSError` if the disk refuses it."""
    write_whole(folder / ENDED_FILE, encode(ended).decode())


def recorded_ended(folder: Path) -> Ended | None:
    """Return how an attempt has ended, None if no process recorded it."""
    try:
        return decode(Ended, (folder / ENDED_FILE).read_bytes())
    except (OSError, Malformed):
        return None
