"""Encodes records: points with the same names as columns, all others with their fields as JSON."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import msgspec

from steersman.files.journal import LATEST_TIME
from steersman.records.kinds import PointRecord
from steersman.records.record import KINDS, Record
from steersman.records.typed_json import Malformed

Names = tuple[str, ...]
NO_TIME = "records: a time is not valid"


class Block(msgspec.Struct, array_like=True, tag="points"):
    """Points of one rank with the same names, in order: columns with 8 bytes per number, little endian.

    `places` has the step and then the number of each point, `times` the seconds since the epoch, `columns` the values
    by name.
    """

    rank: int
    names: tuple[str, ...]
    places: bytes
    times: bytes
    columns: list[bytes]


class Single(msgspec.Struct, array_like=True, tag="record"):
    """A record of another kind, by its number; `payload` has its fields in the format of a journal.

    Redacted text may be longer than the limit of a journal.
    """

    kind: int
    rank: int
    step: int
    number: int
    time: float
    payload: bytes


def packed(records: Iterable[Record]) -> list[Block | Single]:
    """Return the encoded records, in their order."""
    found: list[Block | Single] = []
    for (rank, names), alike in groupby(records, _alike):
        if names is None:
            found += [_single(record) for record in alike]
        else:
            found.append(_block(rank, names, [record for record in alike if isinstance(record, PointRecord)]))
    return found


def unpacked(parts: Sequence[Block | Single]) -> list[Record]:
    """Return the decoded records. Raises `Malformed`."""
    found: list[Record] = []
    for part in parts:
        if isinstance(part, Single):
            found.append(_record(part))
        else:
            found += _points(part)
    return found


def packed_points(ranks: Sequence[Mapping[int, PointRecord]]) -> list[dict[int, Block]]:
    """Return the encoded points of several ranks for each step."""
    return [{rank: _block(0, tuple(point.values), [point]) for rank, point in points.items()} for points in ranks]


def unpacked_points(ranks: Sequence[Mapping[int, Block]]) -> list[dict[int, PointRecord]]:
    """Return the decoded points of several ranks for each step. Raises `Malformed`."""
    return [{rank: _only(block) for rank, block in points.items()} for points in ranks]


def _only(block: Block) -> PointRecord:
    points = _points(block)
    if len(points) != 1:
        raise Malformed("by_rank: give at most one point per rank and step")
    return points[0]


def _alike(record: Record) -> tuple[int, Names | None]:
    return record.rank, tuple(record.values) if isinstance(record, PointRecord) else None


def _block(rank: int, names: Names, points: Sequence[PointRecord]) -> Block:
    count = len(points)
    places = [point.step for point in points] + [point.number for point in points]
    columns = zip(*(point.values.values() for point in points), strict=True)
    return Block(
        rank=rank,
        names=names,
        places=struct.pack(f"<{2 * count}q", *places),
        times=struct.pack(f"<{count}d", *(point.time for point in points)),
        columns=[struct.pack(f"<{count}d", *column) for column in columns],
    )


def _points(block: Block) -> list[PointRecord]:
    count, left = divmod(len(block.times), 8)
    if left or len(block.places) != 16 * count or any(len(column) != 8 * count for column in block.columns):
        raise Malformed("records: the columns of a block have different lengths")
    if len(block.names) != len(block.columns) or len(set(block.names)) != len(block.names):
        raise Malformed("records: a block needs one name for each of its columns, and no name twice")
    places = struct.unpack(f"<{2 * count}q", block.places)
    times = struct.unpack(f"<{count}d", block.times)
    columns = [struct.unpack(f"<{count}d", column) for column in block.columns]
    if not all(0.0 <= time <= LATEST_TIME for time in times):
        raise Malformed(NO_TIME)
    rows: Iterable[tuple[float, ...]] = zip(*columns, strict=True) if columns else ((),) * count
    return [
        PointRecord.read(step, number, time, dict(zip(block.names, row, strict=True)), block.rank)
        for step, number, time, row in zip(places[:count], places[count:], times, rows, strict=True)
    ]


def _single(record: Record) -> Single:
    return Single(record.kind, record.rank, record.step, record.number, record.time, record.payload())


def _record(single: Single) -> Record:
    kind = KINDS.get(single.kind)
    if kind is None or kind is PointRecord:
        raise Malformed(f"records: kind {single.kind} is unknown: upgrade the portal if the training host is newer")
    if not 0.0 <= single.time <= LATEST_TIME:
        raise Malformed(NO_TIME)
    record = kind.from_payload(single.payload, number=single.number, time=single.time, step=single.step)
    return replace(record, rank=single.rank)
