"""Encodes the records of a report: blocks of points as columns, all others with their fields as JSON."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from steersman.files.journal import LATEST_TIME
from steersman.records.kinds import PointRecord
from steersman.records.point_blocks import PointBlock, Stretch, block_of
from steersman.records.record import KINDS, Record
from steersman.records.typed_json import Malformed

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


def packed(records: Iterable[Stretch]) -> list[Block | Single]:
    """Return the encoded records, in their order."""
    return [_block(each) if isinstance(each, PointBlock) else _single(each) for each in records]


def unpacked(parts: Sequence[Block | Single]) -> list[Stretch]:
    """Return the decoded records. Raises `Malformed`."""
    return [_record(part) if isinstance(part, Single) else _points(part) for part in parts]


def packed_points(ranks: Sequence[Mapping[int, PointRecord]]) -> list[dict[int, Block]]:
    """Return the encoded points of several ranks for each step."""
    return [{rank: _block(replace(block_of([point]), rank=0)) for rank, point in points.items()} for points in ranks]


def unpacked_points(ranks: Sequence[Mapping[int, Block]]) -> list[dict[int, PointRecord]]:
    """Return the decoded points of several ranks for each step. Raises `Malformed`."""
    return [{rank: _only(block) for rank, block in points.items()} for points in ranks]


def _only(block: Block) -> PointRecord:
    points = _points(block)
    if len(points) != 1:
        raise Malformed("by_rank: give at most one point per rank and step")
    return points.records()[0]


def _block(points: PointBlock) -> Block:
    count = len(points)
    return Block(
        rank=points.rank,
        names=points.names,
        places=struct.pack(f"<{2 * count}q", *points.steps, *points.numbers),
        times=struct.pack(f"<{count}d", *points.times),
        columns=[struct.pack(f"<{count}d", *column) for column in points.columns],
    )


def _points(block: Block) -> PointBlock:
    count, left = divmod(len(block.times), 8)
    if left or not count or len(block.places) != 16 * count or any(len(each) != 8 * count for each in block.columns):
        raise Malformed("records: the columns of a block need at least one number, and the same length")
    if len(block.names) != len(block.columns) or len(set(block.names)) != len(block.names):
        raise Malformed("records: a block needs one name for each of its columns, and no name twice")
    times = struct.unpack(f"<{count}d", block.times)
    if not all(0.0 <= time <= LATEST_TIME for time in times):
        raise Malformed(NO_TIME)
    places = struct.unpack(f"<{2 * count}q", block.places)
    columns = [struct.unpack(f"<{count}d", column) for column in block.columns]
    return PointBlock(block.names, places[:count], places[count:], times, columns, block.rank)


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
