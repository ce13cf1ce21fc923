"""Points as they were logged: of every attempt, with repeated and superseded ones, one page at a time.

They are ordered by the first point of their series, then by attempt, then as logged: the laps of an attempt
(`runs.series.laps`) follow one another. A point keeps its number in its lap when it is compacted, so that a position
between two pages stays valid while the run continues.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import Q, Sum

from runs.models import Chunk, Series
from runs.series.charts import Extent
from runs.series.chunk_rows import points_of
from runs.series.downsampling import named_nonfinite, without_nonfinite
from runs.series.packing.chunks import CHUNK_POINTS, Points, as_buckets, make_points
from runs.series.storage import Columns, PartKey, read_settled, tail

POINTS_A_PAGE = 10_000
MOST_POINTS_A_PAGE = 50_000
# A page reads at most this many rows, even if short attempts have few points each.
MOST_CHUNKS_A_PAGE = 500
PLACE = re.compile(r"(\d{1,18})\.(\d{1,9})\.(\d{1,9})\.(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The beginning of a page: the point with `number` (from 0) of a series in a lap of an attempt."""

    series: int = 0
    attempt: int = 0
    lap: int = 0
    number: int = 0

    @classmethod
    def of(cls, text: str) -> Place | None:
        """Return the place that `str` produced, None if the text is not one."""
        found = PLACE.fullmatch(text)
        return cls(*map(int, found.groups())) if found else None

    def __str__(self) -> str:
        return f"{self.series}.{self.attempt}.{self.lap}.{self.number}"

    @property
    def part(self) -> tuple[int, int, int]:
        """Return the series, attempt and lap."""
        return self.series, self.attempt, self.lap


@dataclass(frozen=True, slots=True)
class Page:
    """Points of one page: JSON-ready stretches (see `RawPointsOut`), their number, and where the next page begins."""

    items: list[dict[str, Any]]
    count: int
    following: Place | None


def raw_points(
    run_id: int, names: Sequence[str], extent: Extent, start: Place, limit: int = POINTS_A_PAGE
) -> tuple[int, Page]:
    """Return (seq, the page from `start`) of the points in `extent`.

    Memory grows with `limit` and with the points that are not compacted yet, not with the run. A page has no more than
    `limit` points, and may have fewer if others follow. Raises `Run.DoesNotExist`.
    """
    wanted = dict(Series.objects.filter(run_id=run_id, name__in=names).order_by("pk").values_list("pk", "name"))
    return read_settled(run_id, lambda seq: _Reading(run_id, wanted, extent, start, limit).page(tail(run_id, seq)))


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads one page with four queries, whatever the number of attempts."""

    run_id: int
    names: dict[int, str]
    extent: Extent
    start: Place
    limit: int

    def page(self, unfolded: dict[PartKey, Columns]) -> Page:
        folded, bound = self._chunks()
        pieces = sorted([*folded, *self._unfolded(unfolded)], key=lambda piece: piece[0])
        items: list[dict[str, Any]] = []
        room = self.limit
        for place, points in pieces:
            if bound is not None and place >= bound:
                break
            chosen = np.flatnonzero(self._wanted(place, points))
            if len(chosen) > room:
                bound = Place(*place.part, place.number + int(chosen[room]))
                chosen = chosen[:room]
            room -= len(chosen)
            if len(chosen):
                self._add(items, place, points.part(chosen))
        return Page(items, self.limit - room, bound)

    def _chunks(self) -> tuple[Iterator[tuple[Place, Points]], Place | None]:
        """Return the chunks for a page, and the place of the first chunk that it does not read."""
        same = Q(series_id=self.start.series, attempt=self.start.attempt)
        begun = same & Q(lap=self.start.lap, index__gte=self.start.number // CHUNK_POINTS)
        later = same & Q(lap__gt=self.start.lap)
        later |= Q(series_id=self.start.series, attempt__gt=self.start.attempt) | Q(series_id__gt=self.start.series)
        chunks = Chunk.objects.filter(begun | later, self.extent.rows(), series_id__in=list(self.names))
        heads = chunks.order_by("series_id", "attempt", "lap", "index").values_list(
            "pk", "series_id", "attempt", "lap", "index", "count"
        )
        taken: dict[int, Place] = {}
        found = 0
        for pk, series_id, attempt, lap, index, count in heads[: MOST_CHUNKS_A_PAGE + 1]:
            place = Place(series_id, attempt, lap, index * CHUNK_POINTS)
            # One chunk more than the limit, because points of the first one may come before the page.
            if found >= self.limit + CHUNK_POINTS or len(taken) == MOST_CHUNKS_A_PAGE:
                return self._unpacked(taken), place
            taken[pk] = place
            found += count
        return self._unpacked(taken), None

    def _unpacked(self, taken: dict[int, Place]) -> Iterator[tuple[Place, Points]]:
        for chunk in Chunk.objects.filter(pk__in=list(taken)).select_related("places"):
            yield taken[chunk.pk], points_of(chunk)

    def _unfolded(self, unfolded: dict[PartKey, Columns]) -> Iterator[tuple[Place, Points]]:
        ids = {name: pk for pk, name in self.names.items()}
        fresh = {(ids[name], *lap): columns for (*lap, name), columns in unfolded.items() if name in ids}
        if not fresh:
            return
        stored = Chunk.objects.filter(
            series_id__in={series for series, *_ in fresh},
            attempt__in={attempt for _, attempt, _ in fresh},
            lap__in={lap for *_, lap in fresh},
        )
        counted = stored.order_by().values("series_id", "attempt", "lap").annotate(total=Sum("count"))
        totals = {(row["series_id"], row["attempt"], row["lap"]): row["total"] for row in counted}
        for (series_id, attempt, lap), columns in fresh.items():
            place = Place(series_id, attempt, lap, totals.get((series_id, attempt, lap), 0))
            yield place, make_points(columns.steps, columns.times, columns.values)

    def _wanted(self, place: Place, points: Points) -> Any:
        """Return the mask of the points that are in the extent and not before the page."""
        wanted = self.extent.covers(points)
        if place.part < self.start.part:
            wanted[:] = False
        elif place.part == self.start.part:
            wanted &= place.number + np.arange(len(points)) >= self.start.number
        return wanted

    def _add(self, items: list[dict[str, Any]], place: Place, points: Points) -> None:
        """Append points to the stretch that they continue, or as a new one."""
        name = self.names[place.series]
        kinds = as_buckets(points).kinds
        if not items or (items[-1]["name"], items[-1]["attempt"], items[-1]["lap"]) != (name, place.attempt, place.lap):
            columns: dict[str, list[Any]] = {"steps": [], "times": [], "values": [], "nonfinite": []}
            items.append({"name": name, "attempt": place.attempt, "lap": place.lap} | columns)
        stretch = items[-1]
        shift = len(stretch["steps"])
        stretch["steps"] += points.steps.tolist()
        stretch["times"] += (points.times_ms / 1000).tolist()
        stretch["values"] += without_nonfinite(points.values)
        stretch["nonfinite"] += [[shift + at, kind] for at, kind in named_nonfinite(kinds)]
