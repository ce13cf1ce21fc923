"""One curve for a group of runs: the mean of all runs that have a value at a place, between minimum and maximum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runs.models import Axis, Run
from runs.portal.compare.curves import Columns, CurveQuery, NamedCurve, epochs_for, read_curves
from runs.portal.compare.epoch_places import EpochPlaces
from runs.portal.compare.grouping import Group
from runs.series.packing.chunks import Floats

# The number of values that are not finite which a chart lists; it shows the first ones.
MOST_ODD = 200


def read_bands(groups: Sequence[Group], query: CurveQuery) -> list[NamedCurve]:
    """Return a curve for each metric and group; `run` is the index of the group.

    Its places are on the axis of the query, in both `steps` and `times`. Values are interpolated between two points of
    a run; the run does not count before its first and after its last point.
    """
    runs = {run.pk: run for group in groups for run in group.runs}
    place_of = {run.pk: place for place, group in enumerate(groups) for run in group.runs}
    members: dict[tuple[str, int], list[tuple[Floats, NamedCurve]]] = {}
    epochs = epochs_for(query, list(runs.values()))
    for curve in read_curves(list(runs.values()), query, epochs):
        if len(curve.columns.steps):
            place = _places(runs[curve.run], query.over, curve.columns, epochs.get(curve.run))
            members.setdefault((curve.key, place_of[curve.run]), []).append((place, curve))
    return [_band(key, group, own, query) for (key, group), own in members.items()]


def _places(run: Run, over: str, columns: Columns, epochs: EpochPlaces | None) -> Floats:
    if epochs is not None:
        return epochs.epochs_at(columns.steps)
    if over == "step":
        return columns.steps
    start = run.started_at.timestamp() if over == "relative" and run.started_at else 0.0
    return columns.times - start


def _band(key: str, group: int, members: Sequence[tuple[Floats, NamedCurve]], query: CurveQuery) -> NamedCurve:
    grid = _grid([places for places, _ in members], query.buckets)
    means: list[Floats] = []
    lows: list[Floats] = []
    highs: list[Floats] = []
    for places, curve in members:
        columns = curve.columns
        finite = np.isfinite(columns.mean)
        for values, rows in ((columns.mean, means), (columns.minimum, lows), (columns.maximum, highs)):
            known = np.interp(grid, places[finite], values[finite], math.nan, math.nan) if finite.any() else None
            rows.append(np.full(len(grid), math.nan) if known is None else known)
    counts = np.isfinite(np.stack(means)).sum(axis=0)
    shown = counts > 0
    grid, counts = grid[shown], counts[shown]
    mean, low, high = (np.stack(rows)[:, shown] for rows in (means, lows, highs))
    columns = Columns(
        grid, grid, np.nanmean(mean, axis=0), np.nanmin(low, axis=0), np.nanmax(high, axis=0), counts, counts
    )
    last = [value for _, curve in members if (value := curve.last[0]) is not None]
    odd = sorted(one for places, curve in members for one in _odd(places, curve))[:MOST_ODD]
    axis = str(Axis.STEP if query.by == Axis.STEP else Axis.TIME)
    return NamedCurve(key, group, axis, columns, odd, (sum(last) / len(last) if last else None, ""))


def _grid(places: Sequence[Floats], buckets: int) -> Floats:
    """Return all places of any of the runs if they are few, otherwise evenly spread ones."""
    all_places: Floats = np.unique(np.concatenate(places))
    if len(all_places) <= buckets:
        return all_places
    return np.linspace(all_places[0], all_places[-1], buckets)


def _odd(places: Floats, curve: NamedCurve) -> list[tuple[float, str, int]]:
    """Return the values of a curve that are not finite, at their places on the axis."""
    stored = curve.columns.steps if curve.axis == Axis.STEP else curve.columns.times
    last = len(places) - 1
    return [
        (float(places[min(int(np.searchsorted(stored, place)), last)]), name, count) for place, name, count in curve.odd
    ]
