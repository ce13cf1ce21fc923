"""Up to where the journals and consoles of an attempt were stored. Never imports torch."""

from __future__ import annotations

from pathlib import Path

from runs.models import Attempt, JournalOffset, Series
from steersman.agent.journals.consoles import Consoles
from steersman.agent.journals.merged import Journals
from steersman.agent.journals.tail import Position


def committed_positions(attempt: Attempt) -> dict[int, Position]:
    """Return how far the journal of each of the attempt's ranks was consumed."""
    found = {rank: Position() for rank in range(attempt.ranks)}
    for row in JournalOffset.objects.filter(attempt=attempt).order_by("segment"):
        found[row.rank] = Position(row.segment, row.offset, row.next_number)
    return found


def open_journals(attempt: Attempt, folder: Path) -> Journals:
    """Return the journals of an attempt's ranks from where they were consumed."""
    positions = committed_positions(attempt)
    last_steps: dict[str, int] = {}
    if attempt.ranks > 1 and any(position != Position() for position in positions.values()):
        last_steps = dict(Series.objects.filter(run_id=attempt.run_id).values_list("name", "last_step"))
    return Journals(folder, positions, last_steps)


def open_consoles(attempt: Attempt, folder: Path) -> Consoles:
    """Return the consoles of an attempt's ranks from where they were read."""
    offsets = {rank: int(attempt.console_offsets.get(str(rank), 0)) for rank in range(attempt.ranks)}
    return Consoles(folder, offsets | {0: attempt.console_offset})
