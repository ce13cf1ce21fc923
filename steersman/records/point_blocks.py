"""Points as columns: the form in which a report has them, from the training host to the rows of the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import cast

from steersman.records.kinds import PointRecord
from steersman.records.record import Record

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PointBlock:
    """At least one point of one rank, all with the same names, in the order of a journal.

    `steps`, `numbers`, `times` and each of the `columns`, one per name, have one item per point; see `PointRecord`.
    """

    names: Names
    steps: Sequence[int]
    numbers: Sequence[int]
    times: Sequence[float]
    columns: Sequence[Sequence[float]]
    rank: int = 0

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def values(self) -> int:
        """Return how many numbers the points have."""
        return len(self.names) * len(self.steps)

    def part(self, first: int, behind: int) -> PointBlock:
        """Return the points from index `first` up to, and without, `behind`."""
        if first == 0 and behind >= len(self.steps):
            return self
        kept = slice(first, behind)
        columns = [column[kept] for column in self.columns]
        return PointBlock(self.names, self.steps[kept], self.numbers[kept], self.times[kept], columns, self.rank)

    def records(self) -> list[PointRecord]:
        """Return the points one by one."""
        rows: Iterable[tuple[float, ...]] = zip(*self.columns, strict=True) if self.columns else ((),) * len(self.steps)
        return [
            PointRecord.read(step, number, time, dict(zip(self.names, row, strict=True)), self.rank)
            for step, number, time, row in zip(self.steps, self.numbers, self.times, rows, strict=True)
        ]


# An item of a report.
Stretch = Record | PointBlock


def block_of(points: Sequence[PointRecord]) -> PointBlock:
    """Return the block of at least one point; all have the same rank, and the same names in the same order."""
    first = points[0]
    return PointBlock(
        names=tuple(first.values),
        steps=[point.step for point in points],
        numbers=[point.number for point in points],
        times=[point.time for point in points],
        columns=list(zip(*(point.values.values() for point in points), strict=True)),
        rank=first.rank,
    )


def in_blocks(records: Iterable[Record]) -> list[Stretch]:
    """Return records in their order, with points that follow one another as blocks."""
    found: list[Stretch] = []
    for key, alike in groupby(records, _alike):
        if key is None:
            found += alike
        else:
            found.append(block_of(cast("list[PointRecord]", list(alike))))
    return found


def one_by_one(items: Iterable[Stretch]) -> list[Record]:
    """Return the records of a report in their order, each point as a record: the opposite of `in_blocks`."""
    found: list[Record] = []
    for item in items:
        if isinstance(item, PointBlock):
            found += item.records()
        else:
            found.append(item)
    return found


def joined(blocks: Sequence[PointBlock]) -> PointBlock:
    """Return the points of several blocks with the same names as one block."""
    first, *others = blocks
    if not others:
        return first
    return replace(
        first,
        steps=[step for block in blocks for step in block.steps],
        numbers=[number for block in blocks for number in block.numbers],
        times=[time for block in blocks for time in block.times],
        columns=[
            [value for column in columns for value in column]
            for columns in zip(*(block.columns for block in blocks), strict=True)
        ],
    )


def _alike(record: Record) -> tuple[int, Names] | None:
    return (record.rank, tuple(record.values)) if isinstance(record, PointRecord) else None
