"""How often, and why, supervisors of an attempt have crashed at the same position of its journals. No Django, no torch.

If records crash a supervisor, they would crash the next one too. The next one therefore reads that part record by
record; after MOST_DEATHS at one record, that record is set aside, and reading continues after it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.journals.merged import Journals, JournalsRead
from steersman.files.private import write_private
from steersman.messages.reports import Position
from steersman.records.typed_json import Malformed, decode, encode

DEATHS_FILE = "deaths.json"
MOST_DEATHS = 5


@dataclass(frozen=True, slots=True)
class Deaths:
    """The crashes at one position; `records` is how many records the last supervisor had read from there."""

    place: str
    count: int
    records: int
    error: str

    @property
    def are_too_many(self) -> bool:
        return self.count >= MOST_DEATHS


@dataclass(frozen=True, slots=True)
class DeadlyRead:
    """The records at which too many supervisors crashed, and their error."""

    read: JournalsRead
    error: str


class CarefulReader:
    """Reads the journals of an attempt, record by record where an earlier supervisor crashed."""

    def __init__(self, folder: Path, journals: Journals) -> None:
        self._folder = folder
        self._journals = journals
        # How many records are still read one by one, because an earlier supervisor crashed at one of them.
        self._one_by_one = 0
        self._reading = 0

    def start(self, ended: bool = False) -> DeadlyRead | None:
        """Look for earlier crashes. Return the record at which too many supervisors crashed, None if there is none.

        The caller stores it aside and then consumes it with `Journals.advance`.
        """
        found = deaths_at(self._folder, self._journals.positions)
        if found is None:
            return None
        self._one_by_one = found.records
        read = self._journals.read(ended, most=1) if found.are_too_many else None
        return None if read is None else DeadlyRead(read, found.error)

    def read(self, ended: bool = False) -> JournalsRead | None:
        """Return the next records, which the caller stores and then consumes with `Journals.advance`."""
        read = self._journals.read(ended, most=1 if self._one_by_one else None)
        self._reading = len(read.records) if read else 0
        self._one_by_one = max(0, self._one_by_one - self._reading)
        return read

    def record_death(self, error: str) -> None:
        """Count a crash at the last read records."""
        record_death(self._folder, self._journals.positions, self._reading, error)


def deaths_at(folder: Path, positions: Mapping[int, Position]) -> Deaths | None:
    """Return the crashes of earlier supervisors at the journal `positions`, None if there were none."""
    try:
        found = decode(Deaths, (folder / DEATHS_FILE).read_bytes())
    except (OSError, Malformed):
        return None
    return found if found.place == _place(positions) else None


def record_death(folder: Path, positions: Mapping[int, Position], records: int, error: str) -> None:
    """Count a crash. If the disk is full, only the count is lost."""
    before = deaths_at(folder, positions)
    now = Deaths(_place(positions), before.count + 1 if before else 1, max(1, records), error)
    temporary = folder / f"{DEATHS_FILE}.{os.getpid()}"
    try:
        write_private(temporary, encode(now).decode())
        temporary.replace(folder / DEATHS_FILE)
    except OSError:
        temporary.unlink(missing_ok=True)


def _place(positions: Mapping[int, Position]) -> str:
    return " ".join(f"{rank}:{place.segment}:{place.offset}" for rank, place in sorted(positions.items()))
