"""How often supervisors of an attempt have died at the same place of its journals, and of what. No Django, no torch.

A supervisor that died of what it read would die of it again, and again. The next one therefore reads that part record
by record; after MOST_DEATHS at one record, that record is set aside and the rest is read on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from steersman.agent.journals.tail import Position
from steersman.files.private import write_private

DEATHS_FILE = "deaths.json"
MOST_DEATHS = 5


@dataclass(frozen=True, slots=True)
class Deaths:
    """The deaths at one place: `records` is how many records the last of them had read from there."""

    place: str
    count: int
    records: int
    error: str

    @property
    def are_too_many(self) -> bool:
        return self.count >= MOST_DEATHS


def deaths_at(folder: Path, positions: Mapping[int, Position]) -> Deaths | None:
    """Return the deaths of earlier supervisors where journals are consumed up to `positions`, None where none died."""
    try:
        found = Deaths(**json.loads((folder / DEATHS_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.place == _place(positions) else None


def record_death(folder: Path, positions: Mapping[int, Position], records: int, error: str) -> None:
    """Count one more death. A disk that does not take it costs the count alone."""
    before = deaths_at(folder, positions)
    now = Deaths(_place(positions), before.count + 1 if before else 1, max(1, records), error)
    temporary = folder / f"{DEATHS_FILE}.{os.getpid()}"
    try:
        write_private(temporary, json.dumps(asdict(now)))
        temporary.replace(folder / DEATHS_FILE)
    except OSError:
        temporary.unlink(missing_ok=True)


def _place(positions: Mapping[int, Position]) -> str:
    return " ".join(f"{rank}:{place.segment}:{place.offset}" for rank, place in sorted(positions.items()))
