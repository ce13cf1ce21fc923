"""A tick that cannot be stored as a whole is stored in parts, so that what is wrong costs itself alone.

What cannot be stored at all goes to `quarantine.bin` beside the journal. That file is a journal too: a NOTE with the
reason, then the record as it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from django.db import transaction

from runs.recording.database_errors import is_refusal
from runs.recording.lifecycle import Fenced
from steersman.agent.journals.consoles import ConsolesRead
from steersman.agent.journals.merged import JournalsRead
from steersman.files.journal import encode
from steersman.files.private import append_whole
from steersman.records.kinds import NoteRecord, SetAsideRecord
from steersman.records.record import Record
from steersman.values import as_text, clean
from trainer.ingest.ticks import Tick

QUARANTINE_FILE = "quarantine.bin"
LONGEST_REASON = 300
SEARCHED_BYTES = 4 << 20
# A part of a tick that is stored by itself.
Part = Tick

Item = TypeVar("Item")


def parts_of(tick: Tick) -> list[Part]:
    """Return what of a tick can be stored by itself, in the order in which it is shown."""
    parts = []
    if tick.read is not None and tick.read.records:
        parts.append(Tick(read=JournalsRead(tick.read.records)))
    if tick.events:
        parts.append(Tick(events=tick.events))
    if tick.system is not None:
        parts.append(Tick(system=tick.system))
    if tick.lines:
        parts.append(Tick(lines=tick.lines))
    if tick.console is not None or (tick.read is not None and tick.read.unreadable):
        parts.append(Tick(console=tick.console, read=JournalsRead(unreadable=tick.read.unreadable if tick.read else 0)))
    return parts


def store_apart(part: Part, put: Callable[[Part], None]) -> list[tuple[Part, Exception]]:
    """Store a part by `put`, or by halves what of it can be; return what cannot be, each with the error.

    Call inside a transaction. Raises what is no refusal of the data.
    """
    try:
        with transaction.atomic():
            put(part)
        return []
    except Fenced:
        raise
    except Exception as error:
        if not is_refusal(error):
            raise
        halves = _halves(part)
        if not halves:
            return [(part, error)]
    return [refused for half in halves for refused in store_apart(half, put)]


def _halves(part: Part) -> list[Part]:
    """Return a part cut in two, [] if it is but one thing."""
    if part.read is not None and len(part.read.records) > 1:
        return [replace(part, read=JournalsRead(half)) for half in _cut(part.read.records)]
    if len(part.events) > 1:
        return [replace(part, events=half) for half in _cut(part.events)]
    if part.system is not None and len(part.system) > 1:
        return [replace(part, system=dict(half)) for half in _cut(list(part.system.items()))]
    if len(part.lines) > 1:
        return [replace(part, lines=half) for half in _cut(part.lines)]
    if part.console is not None and len(part.console.lines) > 1:
        first, second = _cut(part.console.lines)
        skipped = part.console.skipped_bytes
        rest = replace(part, read=None, console=ConsolesRead(second, 0, {}, part.console.unfinished))
        return [replace(part, console=ConsolesRead(first, skipped, {})), rest]
    return []


def _cut(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    middle = len(items) // 2
    return list(items[:middle]), list(items[middle:])


def describe(part: Part) -> str:
    """Say what a part is that could not be stored."""
    for record in part.read.records if part.read else []:
        return record.in_words()
    if part.system is not None:
        return f"the sample {as_text(next(iter(part.system), ''), 40)}"
    return "a line of text" if part.lines or part.console else "an event"


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line."""
    said = " ".join(as_text(error, LONGEST_REASON).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def put_into_quarantine(folder: Path, part: Part, reason: str) -> None:
    """Append what could not be stored to the attempt's quarantine. Raises `OSError` if the disk does not take it."""
    records: list[Record] = part.read.records if part.read else []
    if not records:
        texts = [line.text for line in part.lines] + (part.console.lines if part.console else [])
        events = [repr(event) for event in part.events]
        records = [SetAsideRecord(time=time.time(), lines=texts, system=part.system or {}, events=events)]
    first = records[0]
    note = NoteRecord(step=first.step, number=first.number, time=time.time(), text=clean(reason))
    data = b"".join(encode(record) for record in (note, *records))
    path = folder / QUARANTINE_FILE
    # Where the transaction was not committed, the same record is set aside again.
    if not _holds(path, first):
        append_whole(path, data)


def _holds(path: Path, record: Record) -> bool:
    """Return whether a record stands near the end of a quarantine."""
    # What is no record of a journal has the time at which it was set aside: its payload tells.
    wanted = record.payload() if isinstance(record, SetAsideRecord) else encode(record)
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - SEARCHED_BYTES))
            return wanted in file.read()
    except FileNotFoundError:
        return False
