"""Charts of series, read from the level that fits: never more than some hundred packed rows per series.

The levels are every point, one row per 64 points, per 512 and per 32,768. If the axis is steps, points that a later
attempt or a later lap repeated are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from django.db.models import Q
from numpy.typing import NDArray

from runs.models import Axis, Chunk
from runs.series import chunk_queries
from runs.series.chunk_queries import Condition, Group, Key, Lap, Part, SeriesHead
from runs.series.downsampling import as_chart, as_charts
from runs.series.laps import LAST_LAP
from runs.series.packing.chunks import (
    BUCKET_POINTS,
    CHUNK_POINTS,
    COARSE_POINTS,
    FINE_POINTS,
    GROUP_CHUNKS,
    GROUP_POINTS,
    Buckets,
    Points,
    as_buckets,
    join_buckets,
    unpack_buckets,
    unpack_groups,
    unpack_points,
)
from runs.series.storage import points_by_key, read_settled, tail

BUCKETS = 1000
# Limits of one request.
MOST_BUCKETS = 4000
MOST_SERIES_AT_ONCE = 64
# The fewest rows for one of several attempts, and for one of attempts that would exceed the total otherwise.
FEWEST_BUCKETS = 20
FEWEST_OF_MANY = 2
# The number of points that are unpacked at once.
BATCH_POINTS = 2**18
# SQLite accepts 32,766 values per statement.
KEYS_A_QUERY = 10_000

# Points per row of each level, the coarsest first.
LEVELS = {"coarse": COARSE_POINTS, "fine": FINE_POINTS, "buckets": BUCKET_POINTS, "points": 1}

ChunkPosition = tuple[int, int, int, int]  # series, attempt, lap, index of the chunk


@dataclass(frozen=True, slots=True)
class Extent:
    """The requested part of an axis, both ends included; `start` and `end` in steps or seconds."""

    by: str = Axis.STEP
    start: float | None = None
    end: float | None = None

    def condition(self) -> Condition | None:
        """Return `rows` in SQL, None if the extent is everything."""
        bounds = (("last", ">=", self.start), ("first", "<=", self.end))
        found = [
            Condition(f'c."{side}_{self.by}" {sign} %s', [bound]) for side, sign, bound in bounds if bound is not None
        ]
        return reduce(Condition.__and__, found) if found else None

    def rows(self) -> Q:
        """Return the condition that a chunk overlaps the extent."""
        reaches = Q()
        if self.start is not None:
            reaches &= Q(**{f"last_{self.by}__gte": self.start})
        if self.end is not None:
            reaches &= Q(**{f"first_{self.by}__lte": self.end})
        return reaches

    def cut(self, rows: Buckets) -> Buckets:
        """Return the rows that overlap the extent."""
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
        """Return the mask of the points in the extent."""
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

    A chart is `{"axis", "raw": True, "steps", "times", "values", "nonfinite", "count"}` if all its points fit, else
    `{"axis", "raw": False, "first_steps", "steps", "times", "min", "max", "mean", "last", "nonfinite",
    "nonfinite_steps", "nonfinite_counts", "counts", "count", "buckets"}` with the last step and time of each bucket,
    and the number of its points. Steps (axis "step") or times in seconds (axis "time") are ascending and unique. Values
    that are not finite are null and named in `nonfinite`; `nonfinite_counts` has their number in each bucket, and
    `nonfinite_steps` the step of the first. If a series is so long that only summaries of 64 points are read, it is the
    first step of the summary. `count` is the number of points.
    Raises `Run.DoesNotExist` if there is no such run.
    """

    def read(seq: int) -> dict[str, dict[str, Any]]:
        series = chunk_queries.series_of(run_id, names)
        return Reading(series, buckets, extent or Extent()).charts(_unfolded(run_id, seq, series))

    return read_settled(run_id, read)


def charts_by_attempt(
    run_id: int,
    names: Iterable[str] | None = None,
    buckets: int = BUCKETS,
    extent: Extent | None = None,
    digits: int | None = None,
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return (seq, `{"axis", "attempts": {number: chart}, "laps": {number: {lap: chart}}}` by name).

    Each attempt has a chart with all its points; if the step went back, each further lap, from 1, has its own chart.
    Points that were repeated later are included. A chart is as in `charts`, over the series' own axis whatever axis the
    extent uses. The charts of one series share `buckets` in proportion to their points, but each gets a few. With
    `digits`, the numbers of buckets are rounded to that many significant digits, and `last` is omitted.
    Raises `Run.DoesNotExist` if there is no such run.
    """

    def read(seq: int) -> dict[str, dict[str, Any]]:
        series = chunk_queries.series_of(run_id, names)
        reading = Reading(series, buckets, extent or Extent(), digits, whole_attempts=True)
        return reading.charts_by_attempt(_unfolded(run_id, seq, series))

    return read_settled(run_id, read)


def _unfolded(run_id: int, seq: int, series: Sequence[SeriesHead]) -> dict[Key, Points]:
    return points_by_key(tail(run_id, seq), {one.name: one.pk for one in series})


class Reading:
    """Reads several series with a handful of queries, whatever the number of points.

    With `whole_attempts`, points are kept even if a later attempt repeated their step.
    """

    def __init__(
        self,
        series: Sequence[SeriesHead],
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

    def charts(self, unfolded: dict[Key, Points]) -> dict[str, dict[str, Any]]:
        """Return the charts by name, of chunks and of the points in `unfolded`."""
        rows, by = self.rows(unfolded), self._extent.by
        axes = {one.pk: str(Axis.TIME if Axis.TIME in (one.axis, by) else Axis.STEP) for one in self._series}
        return {one.name: as_chart(rows[one.pk], axes[one.pk], self._buckets, self._digits) for one in self._series}

    def rows(self, unfolded: dict[Key, Points]) -> dict[int, Buckets]:
        """Return, by series, the rows of the suitable level, ordered by attempts and laps."""
        keys = self._read(unfolded)
        return {series.pk: self._rows(keys.get(series.pk, [])) for series in self._series}

    def charts_by_attempt(self, unfolded: dict[Key, Points]) -> dict[str, dict[str, Any]]:
        """Return `{"axis", "attempts", "laps"}` by name, of chunks and of the points in `unfolded`."""
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

    def _read(self, fresh: dict[Key, Points]) -> dict[int, list[Key]]:
        """Read the points of every attempt; return the keys by series, ordered by attempts and laps."""
        laps = chunk_queries.laps([series.pk for series in self._series])
        if not self._whole_attempts:
            self._find_superseded(fresh, laps)
        self._read_chunks(laps)
        for key, points in fresh.items():
            self._add_points(key, CHUNK_POINTS**2, points)
        keys: dict[int, list[Key]] = {}
        for key in sorted(self._parts):
            keys.setdefault(key[0], []).append(key)
        return keys

    def _find_superseded(self, fresh: dict[Key, Points], laps: Sequence[Lap]) -> None:
        """Store for each lap the step from which a later lap or attempt repeated its points."""
        by_step = {series.pk for series in self._series if series.axis == Axis.STEP}
        # The steps of a lap increase, so its first chunk has the lowest one, except in the last lap.
        if any(lap.key[2] == LAST_LAP for lap in laps):
            laps = [*laps, *chunk_queries.laps_within(list(by_step), Condition('c."lap" = %s', [LAST_LAP]))]
        first = {key: int(points.steps.min()) for key, points in fresh.items()}
        for lap in laps:
            first[lap.key] = min(lap.first_step, first.get(lap.key, lap.first_step))
        lowest: dict[int, int] = {}
        for key in sorted(first, reverse=True):
            series_id = key[0]
            if series_id not in by_step:
                continue
            if series_id in lowest:
                self._superseded_from[key] = lowest[series_id]
            lowest[series_id] = min(first[key], lowest.get(series_id, first[key]))

    def _read_chunks(self, laps: Sequence[Lap]) -> None:
        within = self._extent.condition()
        if within is not None:
            laps = chunk_queries.laps_within([series.pk for series in self._series], within)
        points: dict[int, int] = {}
        for lap in laps:
            points[lap.key[0]] = points.get(lap.key[0], 0) + lap.points
        for level, row_points in LEVELS.items():
            spans = {lap.key: (lap.low, lap.high) for lap in laps if self._level(points[lap.key[0]]) == level}
            if not spans:
                continue
            chosen = chunk_queries.is_one_of("series_id", sorted({series_id for series_id, _, _ in spans}))
            chosen = chosen if within is None else chosen & within
            if level == "points":
                self._read_points(chosen)
            elif level == "buckets":
                self._read_buckets(chosen)
            else:
                self._read_groups(level, row_points, spans, chosen)
        self._read_straddling()

    def _level(self, points: int) -> str:
        """Return the coarsest level that still fills half of the buckets, for this many points."""
        # Computed from points, because the last chunk of a lap has few.
        fitting = (level for level, row_points in LEVELS.items() if points // row_points >= self._buckets / 2)
        return next(fitting, "points")

    def _read_points(self, chosen: Condition) -> None:
        for batch in _in_batches(chunk_queries.parts("points", chosen)):
            counts = [part.points for part in batch]
            points = unpack_points(batch, counts)
            end = 0
            for stretch in chunk_queries.neighbours(batch):
                number = sum(part.points for part in stretch)
                self._add_points(stretch[0].key, stretch[0].chunk_index, points.part(slice(end, end := end + number)))

    def _read_buckets(self, chosen: Condition) -> None:
        found: Iterable[Part] = chunk_queries.parts("buckets", chosen)
        if self._superseded_from:
            found = filter(self._counts_whole, found)
        for batch in _in_batches(found):
            counts = [part.points for part in batch]
            rows = unpack_buckets(batch, counts)
            end = 0
            for stretch in chunk_queries.neighbours(batch):
                number = sum(-(-part.points // BUCKET_POINTS) for part in stretch)
                self._add_rows(stretch[0].key, stretch[0].chunk_index, rows.part(slice(end, end := end + number)))

    def _read_groups(self, level: str, row_points: int, spans: dict[Key, tuple[int, int]], chosen: Condition) -> None:
        """Read the rows of whole groups from their last chunk, and the rows of all other chunks one by one."""
        last_of_group = GROUP_CHUNKS - 1
        lowest = min(low for low, _ in spans.values())
        highest = max(high for _, high in spans.values()) | last_of_group
        closed: dict[Key, list[int]] = {}
        packed: list[Group] = []
        found = chunk_queries.groups(level, sorted({key[0] for key in spans}), lowest, highest)
        for key, of_lap in groupby(found, itemgetter(0, 1, 2)):
            low, high = spans.get(key, (0, -1))
            inside = [group for group in of_lap if low <= group.chunk_index <= high | last_of_group]
            if inside:
                closed[key] = [group.chunk_index - last_of_group for group in inside]
                packed += inside
        groups = unpack_groups(packed, row_points)
        at, number = 0, GROUP_POINTS // row_points
        for key, firsts in closed.items():
            self._add_groups(key, firsts, groups.part(slice(at, at := at + number * len(firsts))), row_points)
        self._read_buckets(chosen & chunk_queries.loose(spans, closed))

    def _read_straddling(self) -> None:
        """Read the chunks that were partly repeated point by point, after finding their rows."""
        if not self._straddling:
            return
        wanted = set(self._straddling)
        series_ids, attempts, laps, indexes = (set(column) for column in zip(*wanted, strict=True))
        candidates = Chunk.objects.filter(
            self._extent.rows(), series_id__in=series_ids, attempt__in=attempts, lap__in=laps, index__in=indexes
        )
        found = candidates.order_by().values_list("pk", "series_id", "attempt", "lap", "index")
        keys = [pk for pk, *place in found if tuple(place) in wanted]
        for start in range(0, len(keys), KEYS_A_QUERY):
            self._read_points(chunk_queries.is_one_of("id", keys[start : start + KEYS_A_QUERY]))

    def _add_groups(self, key: Key, firsts: Sequence[int], rows: Buckets, row_points: int) -> None:
        """Add the rows of the groups that begin with the chunks `firsts`, in their order."""
        number = GROUP_POINTS // row_points
        # The chunk in which each row begins.
        indexes = np.add.outer(np.asarray(firsts), np.arange(number) * row_points // CHUNK_POINTS).ravel()
        bound = self._superseded_from.get(key)
        if bound is not None:
            # A chunk only counts if all of its rows do, and a row if all of its chunks do.
            starts = np.flatnonzero(np.append(True, indexes[1:] != indexes[:-1]))
            lengths = np.diff(np.append(starts, len(indexes)))
            whole = np.repeat(np.maximum.reduceat(rows.last_steps, starts) < bound, lengths)
            begun = np.repeat(np.minimum.reduceat(rows.first_steps, starts) < bound, lengths)
            for index in np.unique(indexes[~whole & begun]).tolist():
                chunks = range(index, index + max(1, row_points // CHUNK_POINTS))
                self._straddling += [(*key, chunk) for chunk in chunks]
            rows, indexes = rows.part(whole), indexes[whole]
        # Separated if other chunks, which are read one by one, come in between.
        ends = [*(np.flatnonzero(np.diff(indexes) > max(1, row_points // CHUNK_POINTS)) + 1).tolist(), len(indexes)]
        for start, end in pairwise([0, *ends]):
            if end > start:
                self._add_rows(key, int(indexes[start]), rows.part(slice(start, end)))

    def _counts_whole(self, part: Part) -> bool:
        """Return whether no point of a chunk is superseded; if some are, schedule it for reading point by point."""
        bound = self._superseded_from.get(part.key)
        if bound is None or part.last_step < bound:
            return True
        if part.first_step < bound:
            self._straddling.append((*part.key, part.chunk_index))
        return False

    def _add_points(self, key: Key, index: int, points: Points) -> None:
        bound = self._superseded_from.get(key)
        if bound is not None:
            points = points.part(points.steps < bound)
        self._add_rows(key, index, as_buckets(points))

    def _add_rows(self, key: Key, index: int, rows: Buckets) -> None:
        self._parts.setdefault(key, []).append((index, self._extent.cut(rows)))

    def _rows(self, keys: Sequence[Key]) -> Buckets:
        ordered = [rows for key in keys for _, rows in sorted(self._parts[key], key=lambda part: part[0])]
        return join_buckets(ordered)


def _in_batches(found: Iterable[Part]) -> Iterator[list[Part]]:
    """Yield the chunks in batches, large enough to unpack quickly and small enough to bound the memory."""
    batch: list[Part] = []
    points = 0
    for each in found:
        batch.append(each)
        points += each.points
        if points >= BATCH_POINTS:
            yield batch
            batch, points = [], 0
    if batch:
        yield batch


def _shared(rows: dict[Key, int], buckets: int) -> dict[Key, int]:
    """Return how many of `buckets` each attempt or lap gets, by its number of rows: all rows if they fit.

    The shortest are served first, so that the buckets that they leave, and the minimum for each, are counted once.
    """
    fewest = max(FEWEST_OF_MANY, min(FEWEST_BUCKETS, buckets // max(1, len(rows))))
    left, total = buckets, sum(rows.values())
    shares = {}
    for key, number in sorted(rows.items(), key=lambda each: each[1]):
        shares[key] = max(fewest, left * number // total)
        left = max(0, left - min(number, shares[key]))
        total -= number
    return shares
