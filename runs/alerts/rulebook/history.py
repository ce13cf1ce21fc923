"""The history of a run for detectors that start: its declared goals, and its curves at a coarse resolution."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, cast

from runs.alerts.detectors.curve import Curve
from runs.alerts.detectors.kinds import Goal, kind_of
from runs.models import Attempt, Axis, Series
from runs.series import charts

# The number of coarse levels to read of each series, however long a run is.
BUCKETS = 96
MOST_SERIES = 50
# Speeds depend on the machine, and the next attempt may run on another one.
REMEMBERED = ("loss", "free_loss", "score")


def goals_before(attempt: Attempt) -> dict[str, Goal]:
    """Return the goals that `watch()` declared in an attempt, or in the newest earlier attempt that declared any."""
    declared = Attempt.objects.filter(run=attempt.run_id, number__lte=attempt.number).exclude(goals={})
    newest = declared.order_by("-number").values_list("goals", flat=True).first()
    return cast("dict[str, Goal]", newest or {})


def curves_before(attempt: Attempt, goals: dict[str, Goal], until: int | None = None) -> dict[str, Curve]:
    """Return the stored curves of the losses and scores that an attempt continues, turned so that less is better.

    What an earlier attempt did behind the step from which this one resumed is left out, and what comes after the step
    `until`, if it is given.
    """
    has_logged = attempt.last_step > (attempt.resumed_step or 0)
    extent = charts.Extent(end=until if until is not None else None if has_logged else attempt.resumed_step)
    names = Series.objects.filter(run=attempt.run_id, axis=Axis.STEP).order_by("pk").values_list("name", flat=True)
    judged = (name for name in names if kind_of(name, goals.get(name)) in REMEMBERED)
    _, found = charts.charts(attempt.run_id, list(itertools.islice(judged, MOST_SERIES)), BUCKETS, extent)
    made = {name: _curve(chart, kind_of(name, goals.get(name)) == "score") for name, chart in found.items()}
    return {name: curve for name, curve in made.items() if curve is not None}


def _curve(chart: Mapping[str, Any], is_score: bool) -> Curve | None:
    """Return the curve that a chart shows; None if no value is finite."""
    sign = -1.0 if is_score else 1.0
    if chart["raw"]:
        curve = Curve()
        for value in chart["values"]:
            if value is not None:
                curve.add(sign * value)
        return curve if curve.count else None
    levels = [sign * mean for mean in chart["mean"] if mean is not None]
    tops = [sign * top for top in chart["min" if is_score else "max"] if top is not None]
    return Curve.of_levels(levels, tops, chart["count"]) if len(levels) >= 3 else None
