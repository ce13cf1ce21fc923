"""Stores records that the record side refuses in `quarantine.bin` beside the journal, unchanged.

That file is a journal too: a NOTE with the reason, then the original record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from steersman.files.journal import encode
from steersman.files.private import append_whole
from steersman.records.kinds import NoteRecord, SetAsideRecord
from steersman.records.record import Record
from steersman.values import clean

QUARANTINE_FILE = "quarantine.bin"
SEARCHED_BYTES = 4 << 20


def texts_aside(
    lines: Sequence[str] = (), system: dict[str, float | None] | None = None, others: Sequence[str] = ()
) -> SetAsideRecord:
    """Return data that is not a record of a journal as a record for the quarantine."""
    return SetAsideRecord(time=time.time(), lines=list(lines), system=system or {}, events=list(others))


def put_into_quarantine(folder: Path, record: Record, reason: str) -> None:
    """Append data that could not be stored to the attempt's quarantine. Raises `OSError` if the disk refuses it."""
    note = NoteRecord(step=record.step, number=record.number, time=time.time(), text=clean(reason))
    path = folder / QUARANTINE_FILE
    # If the report was not stored, the same record is set aside again.
    if not _holds(path, record):
        append_whole(path, encode(note) + encode(record))


def _holds(path: Path, record: Record) -> bool:
    """Return whether a record is already near the end of a quarantine."""
    # Text that is not a record of a journal has the time at which it was set aside, so its payload identifies it.
    wanted = record.payload() if isinstance(record, SetAsideRecord) else encode(record)
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - SEARCHED_BYTES))
            return wanted in file.read()
    except FileNotFoundError:
        return False
