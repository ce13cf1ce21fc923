"""From points of the journal to the events that carry them. No Django."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from runs.protocol.events import Block, Metrics, iso, split_nonfinite
from steersman.files import journal
from steersman.files.journal import Record

# One event holds at most this many steps, so that a backlog becomes frames of a bearable size.
LARGEST_EVENT_STEPS = 1_000


def points(records: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Return the step metrics among `records`, grouped by their names, each group in journal order."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        if record.kind == journal.POINT:
            groups.setdefault(tuple(record.values), []).append(record)
    return groups


def last_point(records: Sequence[Record]) -> Record | None:
    """Return the last step metrics among `records`: the run is at its step."""
    return next((record for record in reversed(records) if record.kind == journal.POINT), None)


def time_of(record: Record) -> datetime:
    """Return when a record was written, in UTC."""
    return datetime.fromtimestamp(record.time, UTC)


def metrics_events(attempt: int, records: Sequence[Record]) -> Iterator[Metrics]:
    """Yield metrics events of the points among `records`, of at most LARGEST_EVENT_STEPS steps in all their blocks."""
    last = last_point(records)
    if last is None:
        return
    for blocks in _blocks_of(points(records)):
        yield Metrics(attempt=attempt, step=last.step, last_point_at=iso(time_of(last)), blocks=blocks)


def _blocks_of(groups: dict[tuple[str, ...], list[Record]]) -> Iterator[list[Block]]:
    blocks: list[Block] = []
    room = LARGEST_EVENT_STEPS
    for names, records in groups.items():
        start = 0
        while start < len(records):
            taken = records[start : start + room]
            blocks.append(_block(names, taken))
            start += len(taken)
            room -= len(taken)
            if room <= 0:
                yield blocks
                blocks, room = [], LARGEST_EVENT_STEPS
    if blocks:
        yield blocks


def _block(names: Sequence[str], records: Sequence[Record]) -> Block:
    values: dict[str, list[float | None]] = {}
    nonfinite: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        values[name], replaced = split_nonfinite(record.values[name] for record in records)
        if replaced:
            nonfinite[name] = replaced
    return Block(
        steps=[record.step for record in records],
        times=[round(record.time, 3) for record in records],
        values=values,
        nonfinite=nonfinite,
    )
