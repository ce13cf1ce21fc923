"""Turns points of the journal into events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import cast

import msgspec

from runs.protocol.events import Block, Column, Metrics, iso
from runs.protocol.nonfinite import split_nonfinite
from runs.series.float32 import with_few_digits
from runs.series.laps import StepOrder
from steersman.records.kinds import OutcomeRecord, PointRecord
from steersman.records.record import Record

# One event has at most this many steps and numbers, so that a backlog becomes frames of moderate size: an event that is
# too large for a frame is encoded again and again until its parts fit.
LARGEST_EVENT_STEPS = 1_000
LARGEST_EVENT_NUMBERS = 2_000
Names = tuple[str, ...]
# Points with the same names, and in the same lap of each series.
Groups = dict[tuple[Names, tuple[int, ...]], list[PointRecord]]


def points(records: Iterable[Record], order: StepOrder) -> Groups:
    """Return the step metrics among `records`, grouped by their names and laps, each group in journal order."""
    groups: Groups = {}
    for names, alike in groupby(records, _names):
        if names is None:
            for record in alike:
                if isinstance(record, OutcomeRecord) and record.to_step is not None:
                    order.begin_lap(record.to_step)
            continue
        found = cast("list[PointRecord]", list(alike))
        steps = [record.step for record in found]
        rising = steps == sorted(set(steps))
        if rising and (laps := order.laps_of_rising(names, steps)) is not None:
            groups.setdefault((names, laps), []).extend(found)
            continue
        for record in found:
            groups.setdefault((names, order.laps(names, record.step)), []).append(record)
    return groups


def _names(record: Record) -> Names | None:
    """Return the names of a point, None for other records."""
    return tuple(record.values) if isinstance(record, PointRecord) else None


def last_point(records: Sequence[Record]) -> PointRecord | None:
    """Return the last step metrics among `records`, which have the step of the run."""
    return next((record for record in reversed(records) if isinstance(record, PointRecord)), None)


def time_of(record: Record) -> datetime:
    """Return the time when a record was written, in UTC."""
    return datetime.fromtimestamp(record.time, UTC)


def metrics_events(attempt: int, records: Sequence[Record], order: StepOrder) -> Iterator[Metrics]:
    """Yield metrics events of the points among `records`, each within the size of an event.

    `order` has the positions of the series before the records, and is updated to those after them.
    """
    groups = points(records, order)
    last = last_point(records)
    if last is None:
        return
    for blocks in _blocks_of(groups):
        yield Metrics(attempt=attempt, step=last.step, last_point_at=iso(time_of(last)), blocks=blocks)


def _blocks_of(groups: Groups) -> Iterator[list[Block]]:
    blocks: list[Block] = []
    steps, numbers = LARGEST_EVENT_STEPS, LARGEST_EVENT_NUMBERS
    for (names, laps), records in groups.items():
        start = 0
        while start < len(records):
            fitting = max(1, min(steps, numbers // max(1, len(names))))
            taken = records[start : start + fitting]
            blocks.append(_block(names, laps, taken))
            start += len(taken)
            steps -= len(taken)
            numbers -= len(taken) * len(names)
            if steps <= 0 or numbers < len(names) or start < len(records):
                yield blocks
                blocks, steps, numbers = [], LARGEST_EVENT_STEPS, LARGEST_EVENT_NUMBERS
    if blocks:
        yield blocks


def _block(names: Names, laps: tuple[int, ...], records: Sequence[PointRecord]) -> Block:
    """Return the block of records with the same names in the same order."""
    values: dict[str, Column] = {}
    nonfinite: dict[str, list[tuple[int, str]]] = {}
    columns = zip(*(record.values.values() for record in records), strict=True)
    for name, column in zip(names, columns, strict=True):
        values[name], replaced = split_nonfinite(column)
        if replaced:
            nonfinite[name] = replaced
    block = Block(
        steps=[record.step for record in records],
        times=[_to_milliseconds(record.time) for record in records],
        values=values,
        nonfinite=nonfinite,
        laps={name: lap for name, lap in zip(names, laps, strict=True) if lap} or msgspec.UNSET,
    )
    return with_few_digits(block)


def _to_milliseconds(time: float) -> float:
    """Return a time in seconds rounded to milliseconds, in less than half the time of `round`."""
    return int(time * 1000 + 0.5) / 1000
