"""Points and their summaries, and how they are packed. Imports NumPy, not Django.

Values are restored bit for bit, including NaN and infinities; times to the millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from runs.series.packing.columns import is_float32, pack_columns, unpack_columns

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# A chart decodes whole chunks at its finest level; the 64 buckets of a chunk add 1.5 % to its size each.
CHUNK_POINTS = 4096
BUCKET_POINTS = 64
# Every 64th chunk also has the summaries of its group, by 512 points and by 32,768, for long series.
GROUP_CHUNKS = 64
GROUP_POINTS = GROUP_CHUNKS * CHUNK_POINTS
FINE_POINTS = 512
COARSE_POINTS = 8 * CHUNK_POINTS

HAS_NAN, HAS_INF, HAS_MINUS_INF = 1, 2, 4
NO_STEP = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one series in the order of logging: steps, times (ms since the epoch, UTC), values."""

    steps: Ints
    times_ms: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def part(self, chosen: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Points:
        """Return the points of a slice, a mask or a list of indices."""
        return Points(self.steps[chosen], self.times_ms[chosen], self.values[chosen])


@dataclass(frozen=True, slots=True)
class Buckets:
    """Summaries of neighbouring points, one row per bucket.

    `first_*` and `last_*` are the lowest and highest step and time of the bucket, which determine its place on an axis
    even if steps decreased. `minimum`, `maximum`, `mean` are over finite values (NaN if there is none), `last` is the
    last logged value. `kinds` has the bits HAS_NAN, HAS_INF, HAS_MINUS_INF of the values that were not finite, and
    `odd_steps` the step of the first of these, NO_STEP if all are finite. Stored summaries do not have it: it is then
    their first step.
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
        """Return the rows of a slice, a mask or a list of indices."""
        return Buckets(*(column[chosen] for column in self.columns()))

    def columns(self) -> tuple[NDArray[Any], ...]:
        return (
            self.first_steps, self.last_steps, self.first_ms, self.last_ms, self.minimum, self.maximum,
            self.mean, self.last, self.counts, self.nonfinite, self.kinds, self.odd_steps,
        )  # fmt: skip


class HasPacked(Protocol):
    """Packed columns: steps and times, which series that are logged together share, and all others."""

    @property
    def places(self) -> bytes: ...
    @property
    def values(self) -> bytes: ...


class Packed(NamedTuple):
    """Packed columns that belong to no row yet: see `HasPacked`."""

    places: bytes
    values: bytes


def make_points(steps: Sequence[int], times: Sequence[float], values: Sequence[float]) -> Points:
    """Return points from plain sequences; `times` in seconds since the epoch."""
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
    """Return one row per point."""
    if np.isfinite(points.values).all():
        none, values = np.zeros(len(points), np.int64), points.values
        return Buckets(
            points.steps, points.steps, points.times_ms, points.times_ms, values, values, values, values,
            np.ones(len(points), np.int64), none, none, np.full(len(points), NO_STEP),
        )  # fmt: skip
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
    return np.where(kinds != 0, steps, NO_STEP) if kinds.any() else np.full(len(steps), NO_STEP)


def merge(rows: Buckets, starts: NDArray[np.intp]) -> Buckets:
    """Return one row for each run of rows that begins at `starts` (ascending, the first 0)."""
    if not len(rows):
        return rows
    ends = np.append(starts[1:], len(rows))
    counts = np.add.reduceat(rows.counts, starts)
    minimum = np.fmin.reduceat(rows.minimum, starts)
    maximum = np.fmax.reduceat(rows.maximum, starts)
    if not rows.kinds.any():
        weights = rows.counts / np.repeat(counts, ends - starts)
        mean = np.clip(np.add.reduceat(rows.mean * weights, starts), minimum, maximum)
        none = np.zeros(len(starts), np.int64)
        nonfinite, kinds, odd_steps = none, none, np.full(len(starts), NO_STEP)
    else:
        nonfinite = np.add.reduceat(rows.nonfinite, starts)
        finite = counts - nonfinite
        # Divided before summing, because a sum of large values could overflow.
        weights = (rows.counts - rows.nonfinite) / np.repeat(np.maximum(finite, 1), ends - starts)
        mean = np.add.reduceat(np.where(weights > 0, rows.mean, 0.0) * weights, starts)
        mean = np.where(finite > 0, np.clip(mean, minimum, maximum), np.nan)
        kinds = np.bitwise_or.reduceat(rows.kinds, starts)
        odd_steps = np.minimum.reduceat(rows.odd_steps, starts)
    return Buckets(
        np.minimum.reduceat(rows.first_steps, starts),
        np.maximum.reduceat(rows.last_steps, starts),
        np.minimum.reduceat(rows.first_ms, starts),
        np.maximum.reduceat(rows.last_ms, starts),
        minimum, maximum, mean, rows.last[ends - 1], counts, nonfinite, kinds, odd_steps,
    )  # fmt: skip


def summarise(points: Points) -> Buckets:
    """Return one row for every 64 points."""
    return merge(as_buckets(points), np.arange(0, len(points), BUCKET_POINTS))


def merged_by(rows: Buckets, number: int) -> Buckets:
    """Return one row for every `number` rows."""
    return merge(rows, np.arange(0, len(rows), number))


def pack_points(points: Points) -> Packed:
    """Return the packed columns of `points`."""
    return Packed(pack_places(points), pack_values(points))


def pack_places(points: Points) -> bytes:
    return pack_columns([points.steps, points.times_ms])


def pack_values(points: Points) -> bytes:
    return pack_columns([points.values])


def unpack_points(packed: Sequence[HasPacked], counts: Sequence[int]) -> Points:
    """Return the points of several results of `pack_points`, in order, each with its count."""
    if not packed:
        return make_points([], [], [])
    steps, times_ms = unpack_columns([each.places for each in packed], 2, counts)
    (values,) = unpack_columns([each.values for each in packed], 1, counts)
    return Points(steps, times_ms, values)


def pack_buckets(rows: Buckets) -> Packed:
    """Return the packed summaries of a chunk, or of a group of chunks."""
    return Packed(pack_bucket_places(rows), pack_bucket_values(rows))


def pack_bucket_places(rows: Buckets) -> bytes:
    return pack_columns([
        rows.first_steps, rows.last_steps - rows.first_steps, rows.first_ms, rows.last_ms - rows.first_ms,
    ])  # fmt: skip


def pack_bucket_values(rows: Buckets) -> bytes:
    mean = rows.mean
    if is_float32(rows.minimum) and is_float32(rows.maximum):
        mean = mean.astype(np.float32).astype(np.float64)
    return pack_columns([rows.minimum, rows.maximum, mean, rows.last, rows.nonfinite, rows.kinds])


def unpack_buckets(packed: Sequence[HasPacked], counts: Sequence[int]) -> Buckets:
    """Return the summaries of several chunks of `counts` points, in order."""
    rows = [-(-count // BUCKET_POINTS) for count in counts]
    per_row = np.full(sum(rows), BUCKET_POINTS, np.int64)
    last = np.cumsum(rows, dtype=np.intp) - 1
    per_row[last] = np.asarray(counts, np.int64) - BUCKET_POINTS * (np.asarray(rows, np.int64) - 1)
    return _unpack_rows(packed, rows, per_row)


def unpack_groups(packed: Sequence[HasPacked], row_points: int) -> Buckets:
    """Return the summaries of several groups, in order: one row per FINE_POINTS or COARSE_POINTS points."""
    rows = GROUP_POINTS // row_points
    return _unpack_rows(packed, [rows] * len(packed), np.full(rows * len(packed), row_points, np.int64))


def _unpack_rows(packed: Sequence[HasPacked], rows: Sequence[int], counts: Ints) -> Buckets:
    if not packed:
        return join_buckets([])
    first_steps, steps, first_ms, spans = unpack_columns([each.places for each in packed], 4, rows)
    minimum, maximum, mean, last, nonfinite, kinds = unpack_columns([each.values for each in packed], 6, rows)
    return Buckets(
        first_steps, first_steps + steps, first_ms, first_ms + spans, minimum, maximum, mean, last, counts,
        nonfinite, kinds, _odd_steps(first_steps, kinds),
    )  # fmt: skip
