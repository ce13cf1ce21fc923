"""Charts of series: read from the level that suits, never more than some hundred packed rows a series.

Levels: every point, one row for 64 points, one row for a chunk of 4,096 points. Points that a later attempt, or a later
lap of the same one, went over again are left out where the axis is steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from django.db.models import F, Max, Min, Q, QuerySet, Sum
from numpy.typing import NDArray

from runs.models import Axis, Chunk, Series
from runs.series.chunk_groups import loose_chunks
from runs.series.chunks import (
    BUCKET_POINTS,
    CHUNK_POINTS,
    GROUP_CHUNKS,
    Buckets,
    Points,
    as_buckets,
    join_buckets,
    make_points,
    unpack_buckets,
    unpack_groups,
    unpack_points,
)
from runs.series.downsampling import as_chart, as_charts
from runs.series.laps import LAST_LAP
from runs.series.storage import Columns, PartKey, read_settled, tail

BUCKETS = 1000
# What one request may ask for.
MOST_BUCKETS = 4000
MOST_SERIES_AT_ONCE = 64
# Of an attempt that is one among several, and where they are so many that these would be more than all may have.
FEWEST_BUCKETS = 20
FEWEST_OF_MANY = 2
# Unpacked at once.
BATCH_POINTS = 2**18
# SQLite takes 32,766 values a statement.
KEYS_A_QUERY = 10_000

Key = tuple[int, int, int]  # series, attempt, lap
ChunkPosition = tuple[int, int, int, int]  # series, attempt, lap, index of the chunk
Packed = tuple[int, int, int, int, int, bytes]  # series, attempt, lap, index, number of points, packed


@dataclass(frozen=True, slots=True)
class Extent:
    """The part of an axis that is asked for, both ends included; `start` and `end` in steps or seconds."""

    by: str = Axis.STEP
    start: float | None = None
    end: float | None = None

    def rows(self) -> Q:
        """Return the condition that a chunk reaches into the extent."""
        reaches = Q()
        if self.start is not None:
            reaches &= Q(**{f"last_{self.by}__gte": self.start})
        if self.end is not None:
            reaches &= Q(**{f"first_{self.by}__lte": self.end})
        return reaches

    def cut(self, rows: Buckets) -> Buckets:
        """Return the rows that reach into the extent."""
        if self.start is None and self.end is None:
            return rows
        by_step = self.by == Axis.STEP
        first, last = (rows.first_steps, rows.last_steps) if by_step else (rows.first_ms / 1000, rows.last_ms / 1000)
        inside = np.ones(len(rows), bool)
        if self.start is not None:
            inside &= last >= self.start
        if self.end is not None:
            inside &= first <= self.end
        return rows.part(inside)

    def covers(self, points: Points) -> NDArray[np.bool_]:
        """Return the mask of the points that lie in the extent."""
        places = points.steps if self.by == Axis.STEP else points.times_ms / 1000
        inside = np.ones(len(points), bool)
        if self.start is not None:
            inside &= places >= self.start
        if self.end is not None:
            inside &= places <= self.end
        return inside


def charts(
    run_id: int,
    names: Iterable[str] | None = None,
    buckets: int = BUCKETS,
    extent: Extent | None = None,
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return (seq, charts by name) of a run: all series, or `names` of them, each with at most `buckets` rows.

    A chart is `{"axis", "raw": True, "steps", "times", "values", "nonfinite", "count"}` where all its points fit, else
    `{"axis", "raw": False, "first_steps", "steps", "times", "min", "max", "mean", "last", "nonfinite",
    "nonfinite_steps", "nonfinite_counts", "counts", "count", "buckets"}` with the last step and time of each bucket,
    and the number of its points. Steps (axis "step") or times in seconds (axis "time") ascend and are unique; what is
    not finite is null and named in `nonfinite`; `nonfinite_counts` says how many of a bucket are, and `nonfinite_steps`
    the step of the first (of a series so long that its points are read by 64, the first step of those). `count` is the
    number of points.
    Raises `Run.DoesNotExist` if there is no such run.
    """

    def read(seq: int) -> dict[str, dict[str, Any]]:
        return Reading(_series(run_id, names), buckets, extent or Extent()).charts(tail(run_id, seq))

    return read_settled(run_id, read)


def charts_by_attempt(
    run_id: int,
    names: Iterable[str] | None = None,
    buckets: int = BUCKETS,
    extent: Extent | None = None,
    digits: int | None = None,
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return (seq, `{"axis", "attempts": {number: chart}, "laps": {number: {lap: chart}}}` by name): all points of each
    attempt in a chart of its own, and those behind a step that went back in one for each such lap, from 1.

    Points that were gone over again are among them. A chart is as in `charts`, over the series' own axis
    whatever the extent is given by; those of one series share `buckets` by their number of points, but each has a few.
    With `digits` the numbers of buckets are rounded to so many, and have no `last`.
    Raises `Run.DoesNotExist` if there is no such run.
    """

    def read(seq: int) -> dict[str, dict[str, Any]]:
        reading = Reading(_series(run_id, names), buckets, extent or Extent(), digits, whole_attempts=True)
        return reading.charts_by_attempt(tail(run_id, seq))

    return read_settled(run_id, read)


def _series(run_id: int, names: Iterable[str] | None) -> list[Series]:
    """Return the series of a run, or those of `names` that it has, in the order in which they began."""
    wanted = Series.objects.filter(run_id=run_id).order_by("pk")
    return list(wanted if names is None else wanted.filter(name__in=list(names)))


class Reading:
    """One reading of several series: a handful of queries, whatever the number of points.

    With `whole_attempts` no point is left out because a later one went over its step again.
    """

    def __init__(
        self,
        series: Sequence[Series],
        buckets: int,
        extent: Extent,
        digits: int | None = None,
        *,
        whole_attempts: bool = False,
    ) -> None:
        self._series = series
        self._digits = digits
        self._whole_attempts = whole_attempts
        self._buckets = buckets
        self._extent = extent
        self._parts: dict[Key, list[tuple[int, Buckets]]] = {}
        self._superseded_from: dict[Key, int] = {}
        self._straddling: list[ChunkPosition] = []

    def charts(self, unfolded: dict[PartKey, Columns]) -> dict[str, dict[str, Any]]:
        """Return the charts by name, of chunks and of the `unfolded` points."""
        keys = self._read(unfolded)
        return {series.name: self._chart(series, keys.get(series.pk, [])) for series in self._series}

    def charts_by_attempt(self, unfolded: dict[PartKey, Columns]) -> dict[str, dict[str, Any]]:
        """Return `{"axis", "attempts", "laps"}` by name, of chunks and of the `unfolded` points."""
        keys = self._read(unfolded)
        found: dict[str, dict[str, Any]] = {}
        for series in self._series:
            rows = {key: self._rows([key]) for key in keys.get(series.pk, [])}
            rows = {key: own for key, own in rows.items() if len(own)}
            shares = _shared({key: len(own) for key, own in rows.items()}, self._buckets)
            axis = str(series.axis)
            drawn = as_charts([(own, shares[key]) for key, own in rows.items()], axis, self._digits)
            attempts: dict[int, dict[str, Any]] = {}
            laps: dict[int, dict[int, dict[str, Any]]] = {}
            for (_, attempt, lap), chart in zip(rows, drawn, strict=True):
                if lap:
                    laps.setdefault(attempt, {})[lap] = chart
                else:
                    attempts[attempt] = chart
            found[series.name] = {"axis": axis, "attempts": attempts, "laps": laps}
        return found

    def _read(self, unfolded: dict[PartKey, Columns]) -> dict[int, list[Key]]:
        """Read what there is of every attempt; return the keys by series, in the order of attempts and laps."""
        ids = {series.name: series.pk for series in self._series}
        fresh = {
            (ids[name], attempt, lap): make_points(columns.steps, columns.times, columns.values)
            for (attempt, lap, name), columns in unfolded.items()
            if name in ids
        }
        if not self._whole_attempts:
            self._find_superseded(fresh)
        self._read_chunks()
        for key, points in fresh.items():
            self._add_points(key, CHUNK_POINTS**2, points)
        keys: dict[int, list[Key]] = {}
        for key in sorted(self._parts):
            keys.setdefault(key[0], []).append(key)
        return keys

    def _find_superseded(self, fresh: dict[Key, Points]) -> None:
        """Note for each lap the step from which a later lap or attempt went over its points again."""
        by_step = [series.pk for series in self._series if series.axis == Axis.STEP]
        first = {key: int(points.steps.min()) for key, points in fresh.items()}
        # The steps of a lap count up, so that its first chunk has the lowest; those of the last one do not.
        rows = Chunk.objects.filter(Q(index=0) | Q(lap=LAST_LAP), series_id__in=by_step)
        for series_id, attempt, lap, step in rows.order_by().values_list("series_id", "attempt", "lap", "first_step"):
            key = (series_id, attempt, lap)
            first[key] = min(step, first.get(key, step))
        chosen = set(by_step)
        lowest: dict[int, int] = {}
        for key in sorted(first, reverse=True):
            series_id = key[0]
            if series_id not in chosen:
                continue
            if series_id in lowest:
                self._superseded_from[key] = lowest[series_id]
            lowest[series_id] = min(first[key], lowest.get(series_id, first[key]))

    def _read_chunks(self) -> None:
        chunks = Chunk.objects.filter(self._extent.rows(), series_id__in=[series.pk for series in self._series])
        spans: dict[int, list[tuple[Key, int, int]]] = {}
        points: dict[int, int] = {}
        grouped = chunks.order_by().values("series_id", "attempt", "lap")
        for row in grouped.annotate(lowest=Min("index"), highest=Max("index"), points=Sum("count")):
            key = (row["series_id"], row["attempt"], row["lap"])
            spans.setdefault(row["series_id"], []).append((key, row["lowest"], row["highest"]))
            points[row["series_id"]] = points.get(row["series_id"], 0) + row["points"]
        finest: list[int] = []
        middle: list[int] = []
        coarsest: dict[Key, tuple[int, int]] = {}
        for series_id, parts in spans.items():
            # The coarsest level that still fills half of the buckets. By points: the last chunk of a lap has few.
            if points[series_id] // BUCKET_POINTS < self._buckets / 2:
                finest.append(series_id)
            elif points[series_id] // CHUNK_POINTS < self._buckets / 2:
                middle.append(series_id)
            else:
                coarsest |= {key: (low, high) for key, low, high in parts}
        if finest:
            self._read_points(chunks.filter(series_id__in=finest))
        if middle:
            self._read_buckets(chunks.filter(series_id__in=middle))
        if coarsest:
            self._read_groups(coarsest, chunks)
        self._read_straddling()

    def _read_points(self, chunks: Any) -> None:
        found = chunks.order_by().values_list("series_id", "attempt", "lap", "index", "count", "points")
        for batch in _in_batches(found):
            counts = [count for *_, count, _ in batch]
            points = unpack_points([bytes(packed) for *_, packed in batch], counts)
            for (series_id, attempt, lap, index, count, _), end in zip(batch, accumulate(counts), strict=True):
                self._add_points((series_id, attempt, lap), index, points.part(slice(end - count, end)))

    def _read_buckets(self, chunks: Any) -> None:
        found = chunks.order_by().values_list(
            "series_id", "attempt", "lap", "index", "count", "buckets", "first_step", "last_step"
        )
        kept = (
            (series_id, attempt, lap, index, count, packed)
            for series_id, attempt, lap, index, count, packed, first, last in found
            if self._counts_whole((series_id, attempt, lap), index, first, last)
        )
        for batch in _in_batches(kept):
            counts = [count for *_, count, _ in batch]
            rows = unpack_buckets([bytes(packed) for *_, packed in batch], counts)
            numbers = [-(-count // BUCKET_POINTS) for count in counts]
            for (*key, index, _, _), number, end in zip(batch, numbers, accumulate(numbers), strict=True):
                self._add_rows((key[0], key[1], key[2]), index, rows.part(slice(end - number, end)))

    def _read_groups(self, spans: dict[Key, tuple[int, int]], chunks: QuerySet[Chunk]) -> None:
        """Read one row a chunk: of whole groups from their last chunk, of the rest from each chunk."""
        last_of_group = GROUP_CHUNKS - 1
        series_ids = {series_id for series_id, _, _ in spans}
        lowest = min(low for low, _ in spans.values())
        highest = max(high for _, high in spans.values()) | last_of_group
        closing = Chunk.objects.annotate(place=F("index") % GROUP_CHUNKS).filter(
            place=last_of_group, count=CHUNK_POINTS, series_id__in=series_ids, index__gte=lowest, index__lte=highest
        )
        ordered = closing.order_by("series_id", "attempt", "lap", "index")
        rows = ordered.values_list("series_id", "attempt", "lap", "index", "buckets")
        closed: dict[Key, list[int]] = {}
        tables: list[bytes] = []
        for series_id, attempt, lap, index, packed in rows:
            key = (series_id, attempt, lap)
            low, high = spans.get(key, (0, -1))
            if low <= index <= high | last_of_group:
                closed.setdefault(key, []).append(index - last_of_group)
                tables.append(bytes(packed))
        groups = unpack_groups(tables)
        at = 0
        for key, firsts in closed.items():
            self._add_groups(key, firsts, groups.part(slice(at, at + GROUP_CHUNKS * len(firsts))))
            at += GROUP_CHUNKS * len(firsts)
        self._read_buckets(loose_chunks(chunks.filter(series_id__in=series_ids), spans, closed))

    def _read_straddling(self) -> None:
        """Read point by point the chunks that were gone over in part: first which rows they are."""
        if not self._straddling:
            return
        wanted = set(self._straddling)
        series_ids, attempts, laps, indexes = (set(column) for column in zip(*wanted, strict=True))
        candidates = Chunk.objects.filter(
            series_id__in=series_ids, attempt__in=attempts, lap__in=laps, index__in=indexes
        )
        found = candidates.order_by().values_list("pk", "series_id", "attempt", "lap", "index")
        keys = [pk for pk, *place in found if tuple(place) in wanted]
        for start in range(0, len(keys), KEYS_A_QUERY):
            self._read_points(Chunk.objects.filter(pk__in=keys[start : start + KEYS_A_QUERY]))

    def _add_groups(self, key: Key, firsts: Sequence[int], rows: Buckets) -> None:
        """Add one row a chunk of the groups that begin with the chunks `firsts`, in their order."""
        indexes = np.add.outer(np.asarray(firsts), np.arange(GROUP_CHUNKS)).ravel()
        bound = self._superseded_from.get(key)
        if bound is not None:
            whole = rows.last_steps < bound
            for place in np.flatnonzero(~whole & (rows.first_steps < bound)):
                self._straddling.append((*key, int(indexes[place])))
            rows, indexes = rows.part(whole), indexes[whole]
        # Apart where other chunks, read by themselves, come in between.
        ends = [*(np.flatnonzero(np.diff(indexes) > 1) + 1).tolist(), len(indexes)]
        for start, end in pairwise([0, *ends]):
            if end > start:
                self._add_rows(key, int(indexes[start]), rows.part(slice(start, end)))

    def _counts_whole(self, key: Key, index: int, first: int, last: int) -> bool:
        """Say whether no point of a chunk is superseded; note it for reading point by point where some are."""
        bound = self._superseded_from.get(key)
        if bound is None or last < bound:
            return True
        if first < bound:
            self._straddling.append((*key, index))
        return False

    def _add_points(self, key: Key, index: int, points: Points) -> None:
        bound = self._superseded_from.get(key)
        if bound is not None:
            points = points.part(points.steps < bound)
        self._add_rows(key, index, as_buckets(points))

    def _add_rows(self, key: Key, index: int, rows: Buckets) -> None:
        self._parts.setdefault(key, []).append((index, self._extent.cut(rows)))

    def _chart(self, series: Series, keys: Sequence[Key]) -> dict[str, Any]:
        return as_chart(self._rows(keys), self._axis(series), self._buckets, self._digits)

    def _rows(self, keys: Sequence[Key]) -> Buckets:
        ordered = [rows for key in keys for _, rows in sorted(self._parts[key], key=lambda part: part[0])]
        return join_buckets(ordered)

    def _axis(self, series: Series) -> str:
        return str(Axis.TIME if Axis.TIME in (series.axis, self._extent.by) else Axis.STEP)


def _in_batches(found: Iterable[Packed]) -> Iterator[list[Packed]]:
    """Yield the chunks so many at once that unpacking costs little a chunk, and no more memory than it must."""
    batch: list[Packed] = []
    points = 0
    for each in found:
        batch.append(each)
        points += each[4]
        if points >= BATCH_POINTS:
            yield batch
            batch, points = [], 0
    if batch:
        yield batch


def _shared(rows: dict[Key, int], buckets: int) -> dict[Key, int]:
    """Return how many of `buckets` each attempt or lap gets, by its number of rows: all of them where they fit.

    The shortest are served first, so that what they do not need and what each has at least are not given twice.
    """
    fewest = max(FEWEST_OF_MANY, min(FEWEST_BUCKETS, buckets // max(1, len(rows))))
    left, total = buckets, sum(rows.values())
    shares = {}
    for key, number in sorted(rows.items(), key=lambda each: each[1]):
        shares[key] = max(fewest, left * number // total)
        left = max(0, left - min(number, shares[key]))
        total -= number
    return shares
