"""Follows one rank's journal across its segments. No Django, no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from steersman.files.journal import LARGEST_RECORD_BYTES, SYNC, Behind, JournalReader, decode, segment_path
from steersman.messages.reports import Position
from steersman.records.kinds import EndRecord
from steersman.records.record import Record

# Small enough for one report and its transaction.
LARGEST_READ_BYTES = LARGEST_RECORD_BYTES + (256 << 10)
# Other threads of a worker may still log this much after its END record.
AFTER_END_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Read:
    """Complete records, the position after them, the number of damaged ones, and the same for each record."""

    records: list[Record]
    position: Position
    unreadable: int
    behind: list[Behind] = field(default_factory=list)


class JournalTail:
    """Reads forward from a committed position; nothing is consumed until `advance`."""

    def __init__(self, folder: Path, rank: int, position: Position) -> None:
        self._folder = folder
        self._rank = rank
        self.position = position

    def has_more(self, position: Position | None = None) -> bool:
        """Return, with one stat call, whether there are unread bytes after the position, or after another one."""
        begin = position or self.position
        try:
            size = segment_path(self._folder, self._rank, begin.segment).stat().st_size
        except FileNotFoundError:
            return self._next_segment(begin.segment) is not None
        return size != begin.offset or self._next_segment(begin.segment) is not None

    def bytes_behind(self, position: Position) -> int:
        """Return how many bytes follow a position, in its segment and those after it."""
        total, segment = -position.offset, position.segment
        while (path := segment_path(self._folder, self._rank, segment)).exists():
            total += path.stat().st_size
            segment += 1
        return max(0, total)

    def read(self, ended: bool = False, position: Position | None = None) -> Read:
        """Return the records after the position, or after another one, at most up to the end of a segment.

        A segment that has a successor, or whose writer has `ended`, is read to its end: an incomplete record there is
        damage.
        """
        begin = position or self.position
        segment = begin.segment
        successor = self._next_segment(segment)
        try:
            reader = JournalReader(segment_path(self._folder, self._rank, segment), begin.offset, begin.next_number)
        except FileNotFoundError:
            if successor is None:
                return Read([], begin, 0)
            return Read([], Position(successor, 0, begin.next_number), 0)
        try:
            records = reader.read(LARGEST_READ_BYTES, ended or successor is not None)
            exhausted = reader.is_exhausted
        finally:
            reader.close()
        end = Position(segment, reader.offset, reader.next_number)
        if exhausted and successor is not None:
            end = Position(successor, 0, reader.next_number)
        return Read(records, end, reader.unreadable, reader.behind)

    def advance(self, position: Position) -> None:
        """Continue after `position`, which is stored; segments before it are no longer needed."""
        for segment in range(self.position.segment, position.segment):
            segment_path(self._folder, self._rank, segment).unlink(missing_ok=True)
        self.position = position

    def _next_segment(self, segment: int) -> int | None:
        return segment + 1 if segment_path(self._folder, self._rank, segment + 1).exists() else None


def last_record(folder: Path, rank: int) -> EndRecord | None:
    """Return the record of a worker about its own end, None if it died without writing one.

    A supervisor may have been killed after it read the record and before it reported it. Reads only the end of the last
    segment.
    """
    segments = sorted(folder.glob(f"journal-{rank:04d}-*.bin"))
    if not segments:
        return None
    with segments[-1].open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LARGEST_RECORD_BYTES - AFTER_END_BYTES))
        data = file.read()
    found = data.rfind(SYNC)
    while found != -1:
        record, _length = decode(data, found)
        if isinstance(record, EndRecord):
            return record
        found = data.rfind(SYNC, 0, found)
    return None
