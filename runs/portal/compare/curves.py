"""The points of a comparison's charts, for many runs at once and in a compact binary form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.utils.translation import gettext as _
from numpy.typing import NDArray

from runs.models import Axis, EpochMetric, Run
from runs.portal.compare.charts import EPOCH
from runs.portal.compare.epoch_places import EpochPlaces, read_places
from runs.portal.compare.metrics import logged_names
from runs.protocol.nonfinite import name_nonfinite
from runs.series.charts import Extent
from runs.series.downsampling import named_nonfinite
from runs.series.many_runs import Curve, SeriesOfRun, curves_of, series_of_runs
from runs.series.packing.chunks import NO_STEP, Buckets, Floats, as_buckets, make_points

MOST_BUCKETS = 1200
MOST_NAMES = 64
LONGEST_NAME = 210
# For all curves of an answer together.
MOST_ROWS = 200_000
FEWEST_BUCKETS = 50
# The newest epochs of each run.
EPOCHS = 2000
# Columns begin at multiples of this many bytes, as typed arrays in a browser require.
ALIGNMENT = 8
NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
OVER = ("step", "epoch", "time", "relative")


class BadQuery(ValueError):
    """A field of the request is invalid; the message names it and says what to give."""


@dataclass(frozen=True, slots=True)
class CurveQuery:
    """The requested charts: names, number of rows, the axis `over`, and its range from `start` to `end`."""

    names: list[str]
    buckets: int
    over: str
    start: float | None
    end: float | None

    @classmethod
    def of(cls, fields: Any) -> CurveQuery:
        """Return the query in the fields of an address. Raises `BadQuery`."""
        names = list(dict.fromkeys(fields.getlist("name")))
        if not 1 <= len(names) <= MOST_NAMES or any(len(name) > LONGEST_NAME for name in names):
            raise BadQuery(_("name: give between 1 and %(most)d names of metrics.") % {"most": MOST_NAMES})
        buckets = fields.get("buckets", "400")
        if not (buckets.isdecimal() and len(buckets) < 6 and 2 <= int(buckets) <= MOST_BUCKETS):
            raise BadQuery(_("buckets: give a whole number from 2 to %(most)d.") % {"most": MOST_BUCKETS})
        over = fields.get("x", "step")
        if over not in OVER:
            raise BadQuery(_("x: give one of %(known)s.") % {"known": ", ".join(OVER)})
        return cls(names, int(buckets), over, _number(fields, "from"), _number(fields, "to"))

    @property
    def by(self) -> str:
        return Axis.STEP if self.over in ("step", "epoch") else Axis.TIME

    def extent_of(self, run: Run, epochs: EpochPlaces | None) -> Extent:
        """Return the range as steps, or as seconds since 1970. `epochs` are the run's if the axis has epochs."""

        def stored(place: float | None) -> float | None:
            if place is None:
                return None
            if epochs is not None:
                return float(epochs.steps_at(np.array([place]))[0])
            return place + (run.started_at.timestamp() if self.over == "relative" and run.started_at else 0)

        return Extent(self.by, stored(self.start), stored(self.end))


def _number(fields: Any, name: str) -> float | None:
    text = fields.get(name)
    if text is None:
        return None
    try:
        value = float(text[:64])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadQuery(_("%(field)s: give a number.") % {"field": name})
    return value


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows of a curve: places as steps and as seconds since 1970, values, and the numbers of points and of finite
    points.
    """

    steps: Floats
    times: Floats
    mean: Floats
    minimum: Floats
    maximum: Floats
    counts: NDArray[Any]
    finites: NDArray[Any]


@dataclass(frozen=True, slots=True)
class NamedCurve:
    """The curve of a run, under the key of its chart.

    `odd` has (place, name, count) for rows with values that are not finite; the place is a step, or a time in seconds.
    `last` is (value, name): the newest logged value, or None and the name of a value that is not finite.
    """

    key: str
    run: int
    axis: str
    columns: Columns
    odd: list[tuple[float, str, int]]
    last: tuple[float | None, str]

    @classmethod
    def of(cls, key: str, curve: Curve) -> NamedCurve:
        rows = curve.rows
        columns = Columns(
            rows.last_steps.astype(np.float64), rows.last_ms / 1000, rows.mean, rows.minimum, rows.maximum,
            rows.counts, rows.counts - rows.nonfinite,
        )  # fmt: skip
        return cls(key, curve.run_id, curve.axis, columns, _odd(rows, curve.axis), _last(rows))


def epochs_for(query: CurveQuery, runs: Sequence[Run]) -> dict[int, EpochPlaces]:
    """Return where the epochs of runs are, by run, if the axis of the query has epochs."""
    return read_places(runs) if query.over == "epoch" else {}


def read_curves(
    runs: Sequence[Run], query: CurveQuery, epochs: Mapping[int, EpochPlaces] | None = None
) -> list[NamedCurve]:
    """Return the curves of all runs that have any of the requested metrics, and places on the axis of the query.

    `epochs`: see `epochs_for`, which is called if they are not given.
    """
    known = epochs_for(query, runs) if epochs is None else epochs
    if query.over == "epoch":
        runs = [run for run in runs if run.pk in known]
    extents = {run.pk: query.extent_of(run, known.get(run.pk)) for run in runs}
    wanted = _wanted(runs, [name for name in query.names if not name.startswith(EPOCH)])
    buckets = max(FEWEST_BUCKETS, min(query.buckets, MOST_ROWS // max(1, len(wanted))))
    found = curves_of([one for _name, one in wanted], min(buckets, query.buckets), query.by, extents) if wanted else []
    curves = [NamedCurve.of(name, curve) for (name, _one), curve in zip(wanted, found, strict=True)]
    measures = [name.removeprefix(EPOCH) for name in query.names if name.startswith(EPOCH)]
    return curves + (_of_epochs(runs, measures) if measures else [])


def _wanted(runs: Sequence[Run], names: Iterable[str]) -> list[tuple[str, SeriesOfRun]]:
    """Return each run's series for each metric: the first of the names under which it may have been logged."""
    asked = {logged: name for name in names for logged in logged_names(name)}
    found = series_of_runs([run.pk for run in runs], asked)
    by_run = {(one.run_id, one.head.name): one for one in found}
    wanted = []
    for name in dict.fromkeys(asked.values()):
        for run in runs:
            own = next((by_run[key] for logged in logged_names(name) if (key := (run.pk, logged)) in by_run), None)
            if own is not None:
                wanted.append((name, own))
    return wanted


def _of_epochs(runs: Sequence[Run], names: Sequence[str]) -> list[NamedCurve]:
    newest = Window(RowNumber(), partition_by="run", order_by=[F("epoch").desc(), F("attempt").desc()])
    rows = EpochMetric.objects.counted().filter(run__in=runs).annotate(place=newest).filter(place__lte=EPOCHS)
    points: dict[tuple[int, str], list[tuple[int, float, float]]] = {}
    for epoch in rows.order_by("run", "epoch"):
        reported = epoch.reported
        for name in names:
            value = NONFINITE.get(epoch.nonfinite.get(name, ""), reported.get(name))
            if value is not None:
                points.setdefault((epoch.run_id, name), []).append((epoch.step, epoch.at.timestamp(), value))
    return [
        NamedCurve.of(EPOCH + name, Curve(run_id, name, Axis.STEP, as_buckets(make_points(*zip(*found, strict=True)))))
        for (run_id, name), found in points.items()
    ]


def encode(curves: Sequence[NamedCurve]) -> bytes:
    """Return the answer: the length of its head (4 bytes, little-endian), the head in JSON, and the columns.

    The head lists the curves with their numbers of `rows`. The columns of each curve follow in this order, padded to
    multiples of 8 bytes: steps and times (float64), the means (float32), and, unless it is `raw`, the minima and
    maxima (float32) and the numbers of points and of finite points (uint32). Values beyond float32 make all values of
    their curve float64, which is `wide`.
    """
    heads, columns = [], []
    for curve in curves:
        own = curve.columns
        raw = bool(np.all(own.counts == 1))
        wide = _exceeds_float32(own)
        kind = "<f8" if wide else "<f4"
        heads.append({
            "key": curve.key, "run": curve.run, "axis": curve.axis, "rows": len(own.steps), "raw": raw, "wide": wide,
            "odd": curve.odd, "last": curve.last,
        })  # fmt: skip
        columns += [own.steps.astype("<f8"), own.times.astype("<f8"), own.mean.astype(kind)]
        if not raw:
            columns += [own.minimum.astype(kind), own.maximum.astype(kind)]
            columns += [own.counts.astype("<u4"), own.finites.astype("<u4")]
    head = msgspec.json.encode({"curves": heads})
    head += b" " * (-(4 + len(head)) % ALIGNMENT)
    return b"".join([len(head).to_bytes(4, "little"), head, *map(_padded, columns)])


def _padded(column: NDArray[Any]) -> bytes:
    content = column.tobytes()
    return content + bytes(-len(content) % ALIGNMENT)


def _exceeds_float32(columns: Columns) -> bool:
    limits = np.finfo(np.float32)
    size = np.abs(np.concatenate([columns.minimum, columns.maximum]))
    with np.errstate(invalid="ignore"):
        return bool(np.any((size > limits.max) | ((size > 0) & (size < limits.tiny))))


def _odd(rows: Buckets, axis: str) -> list[tuple[float, str, int]]:
    found = []
    for index, name in named_nonfinite(rows.kinds):
        step = int(rows.odd_steps[index])
        by_step = step if step != NO_STEP else int(rows.last_steps[index])
        place = by_step if axis == Axis.STEP else float(rows.last_ms[index]) / 1000
        found.append((place, name, int(rows.nonfinite[index])))
    return found


def _last(rows: Buckets) -> tuple[float | None, str]:
    if not len(rows):
        return None, ""
    value = float(rows.last[-1])
    return (value, "") if math.isfinite(value) else (None, name_nonfinite(value))
