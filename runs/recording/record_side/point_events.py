"""Turns points of the journal into events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from runs.protocol.events import Block, Column, Metrics, iso
from runs.protocol.nonfinite import split_nonfinite
from runs.series.float32 import with_few_digits
from runs.series.laps import StepOrder
from steersman.records.kinds import OutcomeRecord
from steersman.records.point_blocks import Names, PointBlock, Stretch, joined

# One event has at most this many steps and numbers, so that a backlog becomes frames of moderate size: an event that is
# too large for a frame is encoded again and again until its parts fit.
LARGEST_EVENT_STEPS = 1_000
LARGEST_EVENT_NUMBERS = 2_000
# Points with the same names, and in the same lap of each series, in the order of the journal.
Groups = dict[tuple[Names, tuple[int, ...]], list[PointBlock]]


def points(records: Iterable[Stretch], order: StepOrder) -> Groups:
    """Return the step metrics among `records`, grouped by their names and laps."""
    groups: Groups = {}
    for record in records:
        if isinstance(record, PointBlock):
            for laps, block in _in_laps(record, order):
                groups.setdefault((record.names, laps), []).append(block)
        elif isinstance(record, OutcomeRecord) and record.to_step is not None:
            order.begin_lap(record.to_step)
    return groups


def _in_laps(block: PointBlock, order: StepOrder) -> Iterator[tuple[tuple[int, ...], PointBlock]]:
    """Yield the parts of a block, each with the lap of each series."""
    names, steps = block.names, block.steps
    rising = len(steps) == 1 or list(steps) == sorted(set(steps))
    if rising and (laps := order.laps_of_rising(names, steps)) is not None:
        yield laps, block
        return
    for place, step in enumerate(steps):
        yield order.laps(names, step), block.part(place, place + 1)


def last_block(records: Sequence[Stretch]) -> PointBlock | None:
    """Return the last step metrics among `records`, whose last step is that of the run."""
    return next((record for record in reversed(records) if isinstance(record, PointBlock)), None)


def time_of(seconds: float) -> datetime:
    """Return the time when a record was written, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def metrics_events(attempt: int, records: Sequence[Stretch], order: StepOrder) -> Iterator[Metrics]:
    """Yield metrics events of the points among `records`, each within the size of an event.

    `order` has the positions of the series before the records, and is updated to those after them.
    """
    groups = points(records, order)
    last = last_block(records)
    if last is None:
        return
    step, at = last.steps[-1], iso(time_of(last.times[-1]))
    for blocks in _blocks_of(groups):
        yield Metrics(attempt=attempt, step=step, last_point_at=at, blocks=blocks)


def _blocks_of(groups: Groups) -> Iterator[list[Block]]:
    blocks: list[Block] = []
    steps, numbers = LARGEST_EVENT_STEPS, LARGEST_EVENT_NUMBERS
    for (names, laps), parts in groups.items():
        points = joined(parts)
        start = 0
        while start < len(points):
            fitting = max(1, min(steps, numbers // max(1, len(names))))
            taken = points.part(start, start + fitting)
            blocks.append(_block(laps, taken))
            start += len(taken)
            steps -= len(taken)
            numbers -= len(taken) * len(names)
            if steps <= 0 or numbers < len(names) or start < len(points):
                yield blocks
                blocks, steps, numbers = [], LARGEST_EVENT_STEPS, LARGEST_EVENT_NUMBERS
    if blocks:
        yield blocks


def _block(laps: tuple[int, ...], points: PointBlock) -> Block:
    values: dict[str, Column] = {}
    nonfinite: dict[str, list[tuple[int, str]]] = {}
    for name, column in zip(points.names, points.columns, strict=True):
        values[name], replaced = split_nonfinite(column)
        if replaced:
            nonfinite[name] = replaced
    block = Block(
        steps=list(points.steps),
        times=[_to_milliseconds(time) for time in points.times],
        values=values,
        nonfinite=nonfinite,
        laps={name: lap for name, lap in zip(points.names, laps, strict=True) if lap} or msgspec.UNSET,
    )
    return with_few_digits(block)


def _to_milliseconds(time: float) -> float:
    """Return a time in seconds rounded to milliseconds, in less than half the time of `round`."""
    return int(time * 1000 + 0.5) / 1000
