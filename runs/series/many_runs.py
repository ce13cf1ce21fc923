"""The same series of many runs: read together, so that the number of queries does not depend on the number of runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import connection

from runs.models import Axis, Series
from runs.protocol.events import Metrics
from runs.series.charts import Extent, Reading
from runs.series.chunk_queries import Condition, Key, SeriesHead, is_one_of
from runs.series.downsampling import merged_rows
from runs.series.packing.chunks import Buckets, Points
from runs.series.storage import collect, points_by_key, read_all_settled, tails

# Of points that are not folded yet, small pictures read those of about this many events, and of a few for each run.
SAMPLED_EVENTS = 600
FEWEST_SAMPLED = 6


@dataclass(frozen=True, slots=True)
class Curve:
    """A series of a run, with rows ordered by its axis, "step" or "time"."""

    run_id: int
    name: str
    axis: str
    rows: Buckets


@dataclass(frozen=True, slots=True)
class SeriesOfRun:
    run_id: int
    head: SeriesHead


@dataclass(frozen=True, slots=True)
class ExtentsOfRuns(Extent):
    """A part of the axis for each run, for example its first hour; runs that are not named are read completely.

    `series` are the keys of each run's series.
    """

    extents: Mapping[int, Extent] = field(default_factory=dict)
    series: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def condition(self) -> Condition | None:
        """Return the condition that a chunk overlaps the extent of its run, None if everything is requested."""
        alike: dict[Extent, list[int]] = {}
        for run_id, own in self.series.items():
            alike.setdefault(self.extents.get(run_id, Extent(self.by)), []).extend(own)
        if all(extent.condition() is None for extent in alike):
            return None
        parts = []
        for extent, keys in alike.items():
            own_series, within = is_one_of("series_id", keys), extent.condition()
            parts.append(own_series if within is None else own_series & within)
        text = " OR ".join(f"({part.text})" for part in parts)
        return Condition(f"({text})", [value for part in parts for value in part.parameters])


def series_of_runs(run_ids: Iterable[int], names: Iterable[str]) -> list[SeriesOfRun]:
    """Return those of the series `names` that the runs have."""
    found = Series.objects.filter(run_id__in=list(run_ids), name__in=list(names)).order_by("pk")
    return [
        SeriesOfRun(run_id, SeriesHead(pk, name, axis))
        for pk, run_id, name, axis in found.values_list("pk", "run_id", "name", "axis")
    ]


def curves_of(wanted: Sequence[SeriesOfRun], buckets: int, by: str, extents: Mapping[int, Extent]) -> list[Curve]:
    """Return a curve for each of `wanted`, with at most `buckets` rows in the extent of its run.

    `by` is the column of the extents, "step" or "time". Points that a later attempt repeated are left out.
    """
    names: dict[int, dict[str, int]] = {}
    for one in wanted:
        names.setdefault(one.run_id, {})[one.head.name] = one.head.pk
    series = {run_id: list(own.values()) for run_id, own in names.items()}
    of_runs = ExtentsOfRuns(by, extents=extents, series=series)

    def read(bounds: dict[int, int]) -> dict[int, Buckets]:
        unfolded: dict[Key, Points] = {}
        for run_id, columns in tails(bounds).items():
            unfolded |= points_by_key(columns, names[run_id])
        return Reading([one.head for one in wanted], buckets, of_runs).rows(unfolded)

    rows = read_all_settled(list(names), read)
    curves = []
    for one in wanted:
        axis = str(Axis.TIME if Axis.TIME in (one.head.axis, by) else Axis.STEP)
        own = extents.get(one.run_id, Extent(by)).cut(rows[one.head.pk])
        curves.append(Curve(one.run_id, one.head.name, axis, merged_rows(own, axis, buckets)))
    return curves


def outlines_of(series: Mapping[int, SeriesHead], with_newest: Collection[int], buckets: int) -> dict[int, Buckets]:
    """Return by series its points over steps in at most `buckets` rows, for a small picture.

    `series` has one head per run. Of the runs in `with_newest`, some of the points that are not folded yet are read
    too, the newest among them; of other runs only the folded points.
    """

    def read(_: dict[int, int]) -> dict[int, Buckets]:
        newest = _sampled({run_id: series[run_id] for run_id in with_newest}, buckets)
        return Reading(list(series.values()), buckets, Extent()).rows(newest)

    rows = read_all_settled(list(with_newest), read) if with_newest else read({})
    return {pk: merged_rows(own, str(Axis.STEP), buckets) for pk, own in rows.items()}


def _sampled(series: Mapping[int, SeriesHead], most: int) -> dict[Key, Points]:
    """Return points of a series of each run that are not folded yet: those of at most `most` events, evenly chosen.

    An event has the points of all series of its run, so that to decode it takes long.
    """
    if not series:
        return {}
    most = min(most, max(FEWEST_SAMPLED, SAMPLED_EVENTS // len(series)))
    marks = ", ".join(["%s"] * len(series))
    # In SQL, because a filter over a window of the ORM would read the frames of all events.
    sql = f"""
        SELECT "run_id", "frame" FROM "runs_storedevent" WHERE "id" IN (
            SELECT "id" FROM (
                SELECT "id",
                    ROW_NUMBER() OVER (PARTITION BY "run_id" ORDER BY "seq" DESC) - 1 AS "age",
                    (COUNT(*) OVER (PARTITION BY "run_id") + %s) / %s AS "stride"
                FROM "runs_storedevent" WHERE "run_id" IN ({marks}) AND "kind" = %s
            ) AS "numbered" WHERE "age" %% "stride" = 0
        ) ORDER BY "run_id", "seq"
    """
    frames: dict[int, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(sql, [most - 1, most, *series, Metrics.kind])
        for run_id, frame in cursor.fetchall():
            frames.setdefault(run_id, []).append(frame)
    found: dict[Key, Points] = {}
    for run_id, own in frames.items():
        head = series[run_id]
        found |= points_by_key(collect(own, only=head.name), {head.name: head.pk})
    return found
