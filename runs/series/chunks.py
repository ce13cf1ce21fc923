"""Packed columns of points and of their summaries. Knows NumPy and zlib, neither Django nor events.

Integers are stored as differences in the narrowest type that holds them, floats as float32 where that is
exact to the bit and as float64 otherwise; bytes of equal weight lie together, then zlib at level 1.
Values come back bit for bit, NaN and infinities included; times are kept to the millisecond.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Column = Ints | Floats

# One chunk is what a chart decodes at its finest; 64 buckets of 64 points make 1.5 % of its size each.
CHUNK_POINTS = 4096
BUCKET_POINTS = 64
# Every 64th chunk also carries the summaries of its group: the level for series of millions of points.
GROUP_CHUNKS = 64

HAS_NAN, HAS_INF, HAS_MINUS_INF = 1, 2, 4
NO_STEP = np.iinfo(np.int64).max

_TYPES = ("<i1", "<i2", "<i4", "<i8", "<f4", "<f8")
_FIRST_FLOAT = 4
_COLUMN_HEAD = struct.Struct("<Bq")
_HEAD_TYPE = np.dtype([("code", "u1"), ("first", "<i8")])
_TABLE_HEAD = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one series in the order of logging: steps, times (ms since the epoch, UTC), values."""

    steps: Ints
    times_ms: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def part(self, chosen: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Points:
        """Return the points of a slice, a mask or a list of places."""
        return Points(self.steps[chosen], self.times_ms[chosen], self.values[chosen])


@dataclass(frozen=True, slots=True)
class Buckets:
    """Summaries of neighbouring points: one row a bucket.

    `first_*` and `last_*` are the lowest and highest of the bucket, which is what its place on an axis is, also
    where steps went down. `minimum`, `maximum`, `mean` are over finite values (NaN if there is none), `last` is
    the value logged last. `kinds` has the bits HAS_NAN, HAS_INF, HAS_MINUS_INF of what was not finite, and
    `odd_steps` the step of the first that was not, NO_STEP where all are finite. Summaries that were stored do not tell
    it: it is their first step then.
    """

    first_steps: Ints
    last_steps: Ints
    first_ms: Ints
    last_ms: Ints
    minimum: Floats
    maximum: Floats
    mean: Floats
    last: Floats
    counts: Ints
    nonfinite: Ints
    kinds: Ints
    odd_steps: Ints

    def __len__(self) -> int:
        return len(self.counts)

    def part(self, chosen: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Buckets:
        """Return the rows of a slice, a mask or a list of places."""
        return Buckets(*(column[chosen] for column in self.columns()))

    def columns(self) -> tuple[NDArray[Any], ...]:
        return (
            self.first_steps, self.last_steps, self.first_ms, self.last_ms, self.minimum, self.maximum,
            self.mean, self.last, self.counts, self.nonfinite, self.kinds, self.odd_steps,
        )  # fmt: skip


def make_points(steps: Sequence[int], times: Sequence[float], values: Sequence[float]) -> Points:
    """Return points of plain sequences; `times` in seconds since the epoch."""
    times_ms = np.rint(np.asarray(times, dtype=np.float64) * 1000).astype(np.int64)
    return Points(np.asarray(steps, dtype=np.int64), times_ms, np.asarray(values, dtype=np.float64))


def join_points(parts: Sequence[Points]) -> Points:
    """Return the points of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return make_points([], [], [])
    return Points(
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times_ms for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def join_buckets(parts: Sequence[Buckets]) -> Buckets:
    """Return the rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return as_buckets(make_points([], [], []))
    return Buckets(*(np.concatenate(columns) for columns in zip(*(part.columns() for part in parts), strict=True)))


def as_buckets(points: Points) -> Buckets:
    """Return one row a point."""
    kinds = (
        np.isnan(points.values) * HAS_NAN
        + np.isposinf(points.values) * HAS_INF
        + np.isneginf(points.values) * HAS_MINUS_INF
    ).astype(np.int64)
    finite = np.where(kinds == 0, points.values, np.nan)
    return Buckets(
        points.steps, points.steps, points.times_ms, points.times_ms, finite, finite, finite, points.values,
        np.ones(len(points), np.int64), (kinds != 0).astype(np.int64), kinds, _odd_steps(points.steps, kinds),
    )  # fmt: skip


def _odd_steps(steps: Ints, kinds: Ints) -> Ints:
    return np.where(kinds != 0, steps, NO_STEP)


def merge(rows: Buckets, starts: NDArray[np.intp]) -> Buckets:
    """Return one row for each run of rows that begins at `starts` (ascending, the first 0)."""
    if not len(rows):
        return rows
    ends = np.append(starts[1:], len(rows))
    counts = np.add.reduceat(rows.counts, starts)
    nonfinite = np.add.reduceat(rows.nonfinite, starts)
    finite = counts - nonfinite
    minimum = np.fmin.reduceat(rows.minimum, starts)
    maximum = np.fmax.reduceat(rows.maximum, starts)
    # Divided before it is added up: a sum of large values must not overflow.
    weights = (rows.counts - rows.nonfinite) / np.repeat(np.maximum(finite, 1), ends - starts)
    mean = np.add.reduceat(np.where(weights > 0, rows.mean, 0.0) * weights, starts)
    mean = np.where(finite > 0, np.clip(mean, minimum, maximum), np.nan)
    return Buckets(
        np.minimum.reduceat(rows.first_steps, starts),
        np.maximum.reduceat(rows.last_steps, starts),
        np.minimum.reduceat(rows.first_ms, starts),
        np.maximum.reduceat(rows.last_ms, starts),
        minimum, maximum, mean, rows.last[ends - 1], counts, nonfinite,
        np.bitwise_or.reduceat(rows.kinds, starts), np.minimum.reduceat(rows.odd_steps, starts),
    )  # fmt: skip


def summarise(points: Points) -> Buckets:
    """Return one row for every 64 points."""
    return merge(as_buckets(points), np.arange(0, len(points), BUCKET_POINTS))


def whole(buckets: Buckets) -> Buckets:
    """Return one row for all of `buckets`."""
    return merge(buckets, np.zeros(1, np.intp))


def pack_points(points: Points) -> bytes:
    """Return the packed columns of `points`."""
    return _pack([points.steps, points.times_ms, points.values])


def unpack_points(packed: Sequence[bytes], counts: Sequence[int]) -> Points:
    """Return the points of several `pack_points`, in order, each with its count."""
    if not packed:
        return make_points([], [], [])
    steps, times_ms, values = _unpack(packed, 3, counts)
    return Points(steps.astype(np.int64), times_ms.astype(np.int64), values.astype(np.float64))


def pack_buckets(own: Buckets, group: Buckets | None = None) -> bytes:
    """Return the summaries of a chunk, and of its group of chunks where it is the last of one."""
    table = _pack_table(own)
    return _TABLE_HEAD.pack(len(table)) + table + (_pack_table(group) if group is not None else b"")


def unpack_buckets(packed: Sequence[bytes], counts: Sequence[int]) -> Buckets:
    """Return the summaries of several chunks of `counts` points, in order."""
    rows = [-(-count // BUCKET_POINTS) for count in counts]
    per_row = np.full(sum(rows), BUCKET_POINTS, np.int64)
    last = np.cumsum(rows, dtype=np.intp) - 1
    per_row[last] = np.asarray(counts, np.int64) - BUCKET_POINTS * (np.asarray(rows, np.int64) - 1)
    start = _TABLE_HEAD.size
    return _unpack_tables([each[start : start + _table_size(each)] for each in packed], rows, per_row)


def unpack_groups(packed: Sequence[bytes]) -> Buckets:
    """Return the summaries of the 64 chunks of each group, from the last chunk of each."""
    tables = [each[_TABLE_HEAD.size + _table_size(each) :] for each in packed]
    per_row = np.full(GROUP_CHUNKS * len(packed), CHUNK_POINTS, np.int64)
    return _unpack_tables(tables, [GROUP_CHUNKS] * len(packed), per_row)


def _table_size(packed: bytes) -> int:
    return int(_TABLE_HEAD.unpack_from(packed)[0])


def _pack_table(rows: Buckets) -> bytes:
    mean = rows.mean
    if _is_float32(rows.minimum) and _is_float32(rows.maximum):
        mean = mean.astype(np.float32).astype(np.float64)
    return _pack([
        rows.first_steps, rows.last_steps - rows.first_steps, rows.first_ms, rows.last_ms - rows.first_ms,
        rows.minimum, rows.maximum, mean, rows.last, rows.nonfinite, rows.kinds,
    ])  # fmt: skip


def _unpack_tables(tables: Sequence[bytes], rows: Sequence[int], counts: Ints) -> Buckets:
    if not tables:
        return join_buckets([])
    first_steps, steps, first_ms, spans, minimum, maximum, mean, last, nonfinite, kinds = _unpack(tables, 10, rows)
    return Buckets(
        first_steps, first_steps + steps, first_ms, first_ms + spans, minimum, maximum, mean, last, counts,
        nonfinite, kinds, _odd_steps(first_steps, kinds),
    )  # fmt: skip


def _pack(columns: Sequence[Column]) -> bytes:
    heads, bodies = [], []
    for column in columns:
        first, stored = _narrow(column)
        heads.append(_COLUMN_HEAD.pack(_TYPES.index(stored.dtype.newbyteorder("<").str.replace("|", "<")), first))
        width = stored.dtype.itemsize
        bodies.append(stored.view(np.uint8).reshape(-1, width).T.tobytes())
    return b"".join(heads) + zlib.compress(b"".join(bodies), 1)


def _unpack(packed: Sequence[bytes], columns: int, counts: Sequence[int]) -> list[NDArray[Any]]:
    """Return the columns of all of `packed`, joined in order.

    Those with the same types and length are unpacked at once: a chart reads hundreds, and each costs a dozen
    calls of NumPy otherwise.
    """
    head_size = columns * _COLUMN_HEAD.size
    alike: dict[tuple[bytes, int], list[int]] = {}
    for place, (each, count) in enumerate(zip(packed, counts, strict=True)):
        alike.setdefault((bytes(each[: head_size : _COLUMN_HEAD.size]), count), []).append(place)
    ends = np.cumsum(counts, dtype=np.intp)
    joined = [np.zeros(int(ends[-1]), np.int64) for _ in range(columns)]
    for (codes, count), places in alike.items():
        heads = np.frombuffer(b"".join(packed[place][:head_size] for place in places), _HEAD_TYPE)
        firsts = heads["first"].reshape(len(places), columns)
        bodies = b"".join(zlib.decompress(memoryview(packed[place])[head_size:]) for place in places)
        table = np.frombuffer(bodies, np.uint8).reshape(len(places), -1)
        target = (ends[places, None] - count + np.arange(count)).ravel()
        at = 0
        for column, code in enumerate(codes):
            width = int(_TYPES[code][2:])
            planes = table[:, at : at + width * count].reshape(len(places), width, count)
            at += width * count
            stored = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(_TYPES[code]).reshape(len(places), count)
            if code >= _FIRST_FLOAT:
                whole_column = stored.astype(np.float64)
                if joined[column].dtype != np.float64:
                    joined[column] = np.zeros(int(ends[-1]), np.float64)
            else:
                differences = stored.astype(np.int64)
                differences[:, 0] = firsts[:, column]
                whole_column = np.cumsum(differences, axis=1)
            joined[column][target] = whole_column.ravel()
    return joined


def _narrow(column: Column) -> tuple[int, NDArray[np.generic]]:
    """Return the first value (0 for floats) and the column in the narrowest type that gives it back exactly."""
    if column.dtype.kind == "f":
        if _is_float32(column):
            with np.errstate(over="ignore", invalid="ignore"):
                return 0, column.astype("<f4")
        return 0, np.ascontiguousarray(column, "<f8")
    if not len(column):
        return 0, np.zeros(0, "<i1")
    # Wraps where steps lie more than 2**63 apart, and cumsum wraps back.
    differences = np.diff(column, prepend=column[0])
    lowest, highest = int(differences.min()), int(differences.max())
    for code in _TYPES[:_FIRST_FLOAT]:
        limits = np.iinfo(code)
        if limits.min <= lowest and highest <= limits.max:
            break
    return int(column[0]), differences.astype(code)


def _is_float32(column: NDArray[np.generic]) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        back = column.astype(np.float32).astype(np.float64)
    return bool(np.array_equal(back.view(np.uint64), column.view(np.uint64)))
