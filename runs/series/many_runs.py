"""The same series of many runs: read together, so that the number of queries does not depend on the number of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runs.models import Axis, Series
from runs.series.charts import Extent, Reading
from runs.series.chunk_queries import Condition, Key, SeriesHead, is_one_of
from runs.series.downsampling import merged_rows
from runs.series.packing.chunks import Buckets, Points
from runs.series.storage import points_by_key, read_all_settled, tails


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


def outlines_of(series: Sequence[SeriesHead], buckets: int) -> dict[int, Buckets]:
    """Return by series its stored points over steps in at most `buckets` rows, for a small picture.

    Points that are not folded yet are left out: to read them takes as long as all other series of the run.
    """
    rows = Reading(series, buckets, Extent()).rows({})
    return {pk: merged_rows(own, str(Axis.STEP), buckets) for pk, own in rows.items()}
