"""Queries of chunks for charts, in SQL: a chart needs a few statements, and the ORM takes as long to build them as the
database to run them.

Each function runs one statement, or two if an extent is given. Only blobs of the requested level are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from django.db import connection

from runs.series.packing.chunks import CHUNK_POINTS, GROUP_CHUNKS

Key = tuple[int, int, int]  # series, attempt, lap
# The number of ranges of chunks that a query lists one by one.
MOST_GAPS = 100
ROWS_A_READ = 256

_PLACED = 'FROM "runs_chunk" c JOIN "runs_chunkplaces" p ON p."id" = c."places_id"'
# The conditions of the partial indexes are literal, because SQLite does not use such an index with a parameter.
_LAPS = """
SELECT f."series_id", f."attempt", f."lap", f."first_step", l."index", l."count"
FROM "runs_chunk" f JOIN "runs_chunk" l ON l."series_id" = f."series_id" AND l."attempt" = f."attempt"
AND l."lap" = f."lap" AND l."index" = (SELECT MAX(m."index") FROM "runs_chunk" m
WHERE m."series_id" = f."series_id" AND m."attempt" = f."attempt" AND m."lap" = f."lap")
WHERE f."index" = 0 AND """
_IN_NO_GROUP = f"""NOT EXISTS (SELECT 1 FROM "runs_chunk" g WHERE g."series_id" = c."series_id"
AND g."attempt" = c."attempt" AND g."lap" = c."lap" AND g."closes_group"
AND g."index" = c."index" - c."index" %% {GROUP_CHUNKS} + {GROUP_CHUNKS - 1})"""


@dataclass(frozen=True, slots=True)
class Condition:
    """A part of a WHERE clause about the rows `c`, with its parameters."""

    text: str
    parameters: Sequence[Any] = field(default=())

    def __and__(self, other: Condition) -> Condition:
        return Condition(f"{self.text} AND {other.text}", [*self.parameters, *other.parameters])


@dataclass(frozen=True, slots=True)
class Lap:
    """The chunks of a series in one lap: where they begin and end, and their number of points."""

    key: Key
    first_step: int
    low: int
    high: int
    points: int


class Part(NamedTuple):
    """A chunk with its number of points, and the packed columns of its points or of its buckets.

    A tuple, made of a row as it is, because a chart reads hundreds.
    """

    series_id: int
    attempt: int
    lap: int
    chunk_index: int
    points: int
    first_step: int
    last_step: int
    places: bytes
    values: bytes

    @property
    def key(self) -> Key:
        return self[:3]


class Group(NamedTuple):
    """The chunk that closes a group, with the packed summaries of the group."""

    series_id: int
    attempt: int
    lap: int
    chunk_index: int
    places: bytes
    values: bytes


@dataclass(frozen=True, slots=True)
class SeriesHead:
    """The fields of a chart that describe the series as a whole."""

    pk: int
    name: str
    axis: str


def series_of(run_id: int, names: Iterable[str] | None) -> list[SeriesHead]:
    """Return the series of a run, or those of `names` that it has, in the order in which they began."""
    chosen = Condition('c."run_id" = %s', [run_id])
    if names is not None:
        chosen &= is_one_of("name", names)
    text = f'SELECT c."id", c."name", c."axis" FROM "runs_series" c WHERE {chosen.text} ORDER BY c."id"'
    return [SeriesHead(*row) for row in _rows(text, chosen.parameters)]


def is_one_of(column: str, values: Iterable[int] | Iterable[str]) -> Condition:
    chosen = list(values)
    return Condition(f'c."{column}" IN ({", ".join(["%s"] * len(chosen))})', chosen) if chosen else Condition("1 = 0")


def laps(series_ids: Sequence[int]) -> list[Lap]:
    """Return the laps of several series. All chunks of a lap except the last are full."""
    chosen = is_one_of("series_id", series_ids)
    rows = _rows(_LAPS + chosen.text.replace("c.", "f."), chosen.parameters)
    return [
        Lap((series_id, attempt, lap), first, 0, last, last * CHUNK_POINTS + count)
        for series_id, attempt, lap, first, last, count in rows
    ]


def laps_within(series_ids: Sequence[int], extent: Condition) -> list[Lap]:
    """Return the parts of the laps of several series in an extent; `first_step` is that of the extent."""
    chosen = is_one_of("series_id", series_ids) & extent
    rows = _rows(
        'SELECT c."series_id", c."attempt", c."lap", MIN(c."first_step"), MIN(c."index"), MAX(c."index"), '
        f'SUM(c."count") FROM "runs_chunk" c WHERE {chosen.text} GROUP BY c."series_id", c."attempt", c."lap"',
        chosen.parameters,
    )
    return [Lap((row[0], row[1], row[2]), row[3], row[4], row[5], int(row[6])) for row in rows]


def parts(level: str, chosen: Condition) -> Iterator[Part]:
    """Return the chosen chunks with their columns of `level`: "points" or "buckets"."""
    rows = _rows(
        f'SELECT c."series_id", c."attempt", c."lap", c."index", c."count", c."first_step", c."last_step", '
        f'p."{level}", c."{level}" {_PLACED} WHERE {chosen.text}',
        chosen.parameters,
    )
    return map(Part._make, rows)


def neighbours(found: Iterable[Part]) -> Iterator[list[Part]]:
    """Yield lists of chunks that follow one another in a lap, in their order."""
    stretch: list[Part] = []
    for part in found:
        if stretch and part[:4] != (*stretch[-1][:3], stretch[-1].chunk_index + 1):
            yield stretch
            stretch = []
        stretch.append(part)
    if stretch:
        yield stretch


def groups(level: str, series_ids: Sequence[int], low: int, high: int) -> Iterator[Group]:
    """Return the groups that are closed between two indexes, in order, with their summaries of `level`: "fine" or
    "coarse".
    """
    between = Condition('c."closes_group" AND c."index" >= %s AND c."index" <= %s', [low, high])
    chosen = is_one_of("series_id", series_ids) & between
    rows = _rows(
        f'SELECT c."series_id", c."attempt", c."lap", c."index", p."{level}", c."{level}" {_PLACED} '
        f'WHERE {chosen.text} ORDER BY c."series_id", c."attempt", c."lap", c."index"',
        chosen.parameters,
    )
    return map(Group._make, rows)


def loose(spans: Mapping[Key, tuple[int, int]], closed: Mapping[Key, Sequence[int]]) -> Condition:
    """Return the condition of chunks that belong to no whole group: mostly the last few of each lap."""
    gaps: list[tuple[Key, int, int]] = []
    for key, (low, high) in spans.items():
        edges = [low - low % GROUP_CHUNKS - GROUP_CHUNKS, *closed.get(key, ()), high + 1]
        gaps += [(key, one + GROUP_CHUNKS, two) for one, two in pairwise(edges) if one + GROUP_CHUNKS < two]
    if not gaps:
        return Condition("1 = 0")
    if len(gaps) > MOST_GAPS:
        return is_one_of("series_id", {series_id for series_id, *_ in spans}) & Condition(_IN_NO_GROUP)
    one = '(c."series_id" = %s AND c."attempt" = %s AND c."lap" = %s AND c."index" >= %s AND c."index" < %s)'
    parameters = [number for key, first, end in gaps for number in (*key, first, end)]
    return Condition(f"({' OR '.join([one] * len(gaps))})", parameters)


def _rows(text: str, parameters: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        more = True
        while more:
            rows = cursor.fetchmany(ROWS_A_READ)
            yield from rows
            more = len(rows) == ROWS_A_READ
