"""The newest points of many series, as they were logged."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import Sum

from runs.models import Chunk, Series
from runs.series.chunk_rows import points_of
from runs.series.packing.chunks import Points, join_points, make_points
from runs.series.storage import Columns, PartKey, read_settled, tail

CHUNKS_A_READ = 200


@dataclass(frozen=True, slots=True)
class Newest:
    """Points by attempt and series, each in the order of logging, and the number of older ones."""

    points: dict[tuple[int, str], Points]
    left_out: int


def newest_points(run_id: int, names: Collection[str], most_each: int) -> Newest:
    """Return at most `most_each` points of each of the series `names`, the newest.

    Memory grows with the requested points and with those that are not compacted yet. Raises `Run.DoesNotExist`.
    """
    series = dict(Series.objects.filter(run_id=run_id, name__in=names).values_list("pk", "name"))
    return read_settled(run_id, lambda seq: _read(series, tail(run_id, seq), most_each))[1]


def _read(series: dict[int, str], unfolded: dict[PartKey, Columns], most_each: int) -> Newest:
    parts: dict[tuple[int, str], list[Points]] = {}
    room = dict.fromkeys(series.values(), most_each)
    left_out = 0
    # From the newest to the oldest: points that are not compacted, then chunks.
    for (attempt, _lap, name), columns in sorted(unfolded.items(), reverse=True, key=lambda item: item[0]):
        if name in room:
            left_out += _take(parts, room, (attempt, name), make_points(columns.steps, columns.times, columns.values))
    chunks = Chunk.objects.filter(series_id__in=series)
    counts = dict(chunks.order_by().values_list("series_id").annotate(Sum("count")))
    for pk, name in series.items():
        left_out += counts.get(pk, 0)
        own, before = chunks.filter(series_id=pk).order_by("-attempt", "-lap", "-index"), 0
        while room[name] > 0:
            rows = list(own.select_related("places")[before : before + CHUNKS_A_READ])
            for chunk in rows:
                if room[name] > 0:
                    found = points_of(chunk)
                    left_out += _take(parts, room, (chunk.attempt, name), found) - len(found)
            before += CHUNKS_A_READ
            if len(rows) < CHUNKS_A_READ:
                break
    return Newest({key: join_points(found[::-1]) for key, found in parts.items()}, left_out)


def _take(parts: dict[tuple[int, str], list[Points]], room: dict[str, int], key: tuple[int, str], found: Points) -> int:
    """Add the newest of `found` for which there is room; return how many are left out."""
    left_out = max(0, len(found) - room[key[1]])
    kept = found.part(slice(left_out, None))
    if len(kept):
        parts.setdefault(key, []).append(kept)
        room[key[1]] -= len(kept)
    return left_out
