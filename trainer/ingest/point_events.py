"""From points of the journal to the events that carry them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from runs.protocol.events import Block, Column, Metrics, iso
from runs.protocol.nonfinite import split_nonfinite
from runs.series.float32 import with_few_digits
from runs.series.laps import StepOrder
from steersman.agent.machine.redactor import Redactor
from steersman.records.kinds import PointRecord
from steersman.records.record import Record

# One event holds at most this many steps, so that a backlog becomes frames of a bearable size.
LARGEST_EVENT_STEPS = 1_000
# Of one training, which logs few sets of names, again and again.
MOST_KNOWN_NAMES = 100

Names = tuple[str, ...]
# Points of the same names, and of the same lap of each.
Groups = dict[tuple[Names, tuple[int, ...]], list[PointRecord]]


class SeriesNames:
    """The names of series as they are stored: without what must not leave the training host."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._known: dict[Names, Names] = {}

    def stored(self, names: Names) -> Names:
        found = self._known.get(names)
        if found is None:
            if len(self._known) >= MOST_KNOWN_NAMES:
                self._known.clear()
            found = self._known[names] = tuple(self._redactor.names(names))
        return found


def points(records: Iterable[Record], stored: SeriesNames, order: StepOrder) -> Groups:
    """Return the step metrics among `records`, grouped by their names and laps, each group in journal order."""
    groups: Groups = {}
    for record in records:
        if isinstance(record, PointRecord):
            names = tuple(record.values)
            groups.setdefault((names, order.laps(stored.stored(names), record.step)), []).append(record)
    return groups


def last_point(records: Sequence[Record]) -> PointRecord | None:
    """Return the last step metrics among `records`: the run is at its step."""
    return next((record for record in reversed(records) if isinstance(record, PointRecord)), None)


def time_of(record: Record) -> datetime:
    """Return when a record was written, in UTC."""
    return datetime.fromtimestamp(record.time, UTC)


def metrics_events(attempt: int, records: Sequence[Record], stored: SeriesNames, order: StepOrder) -> Iterator[Metrics]:
    """Yield metrics events of the points among `records`, of at most LARGEST_EVENT_STEPS steps in all their blocks.

    `order` has where the series are before them, and behind them afterwards.
    """
    last = last_point(records)
    if last is None:
        return
    for blocks in _blocks_of(points(records, stored, order), stored):
        yield Metrics(attempt=attempt, step=last.step, last_point_at=iso(time_of(last)), blocks=blocks)


def _blocks_of(groups: Groups, stored: SeriesNames) -> Iterator[list[Block]]:
    blocks: list[Block] = []
    room = LARGEST_EVENT_STEPS
    for (names, laps), records in groups.items():
        start = 0
        while start < len(records):
            taken = records[start : start + room]
            blocks.append(_block(names, stored.stored(names), laps, taken))
            start += len(taken)
            room -= len(taken)
            if room <= 0:
                yield blocks
                blocks, room = [], LARGEST_EVENT_STEPS
    if blocks:
        yield blocks


def _block(names: Names, stored: Names, laps: tuple[int, ...], records: Sequence[PointRecord]) -> Block:
    values: dict[str, Column] = {}
    nonfinite: dict[str, list[tuple[int, str]]] = {}
    for name, shown in zip(names, stored, strict=True):
        values[shown], replaced = split_nonfinite(record.values[name] for record in records)
        if replaced:
            nonfinite[shown] = replaced
    block = Block(
        steps=[record.step for record in records],
        times=[round(record.time, 3) for record in records],
        values=values,
        nonfinite=nonfinite,
        laps={name: lap for name, lap in zip(stored, laps, strict=True) if lap} or msgspec.UNSET,
    )
    return with_few_digits(block)
