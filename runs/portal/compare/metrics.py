"""The metrics of the compared runs: their series and epochs. The number of queries does not depend on the number of
runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import OuterRef, Subquery

from runs.live.snapshot import epoch_as_wire
from runs.models import Axis, EpochMetric, Run, Series
from runs.protocol.series_names import LOSS_NAMES, natural_key
from runs.selection.expressions import BEST_OF

# More names than a person scrolls through.
MOST_SERIES = 300
# The last part of a name shows whether low or high values are good.
LOW_IS_GOOD = re.compile(r"(^|_)(loss|perplexity|ppl|error|err|nll|mse|rmse|mae|wer|cer|fid)$", re.IGNORECASE)
HIGH_IS_GOOD = re.compile(
    r"(^|_)(accuracy|acc|f1|auc|auroc|precision|recall|bleu|rouge|iou|miou|map|dice|psnr|ssim|r2|reward)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics of one run: series by the name under which they are compared, last and best values of epochs."""

    series: dict[str, Series] = field(default_factory=dict)
    last_epoch: dict[str, Any] = field(default_factory=dict)
    best_epoch: dict[str, float | None] = field(default_factory=dict)


def low_is_good(name: str) -> bool | None:
    """Return whether low values of a metric are good, None if its name does not show it."""
    part = name.rsplit("/", 1)[-1]
    if LOW_IS_GOOD.search(part):
        return True
    return False if HIGH_IS_GOOD.search(part) else None


def compared_names(names: Iterable[str]) -> dict[str, str]:
    """Return, by name, the name under which a run's series is compared.

    `loss` and `train/loss` are the same metric, unless the run has both.
    """
    own = list(names)
    usual, *others = LOSS_NAMES
    same = dict.fromkeys(others, usual) if usual not in own else {}
    return {name: same.get(name, name) for name in own}


def logged_names(name: str) -> tuple[str, ...]:
    """Return the names under which a series that is compared as `name` may have been logged."""
    return LOSS_NAMES if name == LOSS_NAMES[0] else (name,)


def measured(runs: Sequence[Run]) -> dict[int, Measured]:
    """Return the metrics of each run. Costs four queries."""
    series: dict[int, dict[str, Series]] = {run.pk: {} for run in runs}
    for one in Series.objects.filter(run__in=runs).order_by("name", "run"):
        series[one.run_id][one.name] = one
    last, best = _last_epochs(runs), _best_epochs(runs)
    found = {}
    for run in runs:
        names = compared_names(series[run.pk])
        own = {names[name]: one for name, one in series[run.pk].items()}
        found[run.pk] = Measured(own, last.get(run.pk, {}), best.get(run.pk, {}))
    return found


def _last_epochs(runs: Sequence[Run]) -> dict[int, dict[str, Any]]:
    counted = EpochMetric.objects.counted().filter(run=OuterRef("pk")).order_by("-epoch", "-attempt", "-order")
    newest = Run.objects.filter(pk__in=[run.pk for run in runs]).annotate(newest=Subquery(counted.values("pk")[:1]))
    keys = list(newest.order_by().values_list("newest", flat=True))
    found = {}
    for epoch in EpochMetric.objects.filter(pk__in=[key for key in keys if key is not None]):
        wire = epoch_as_wire(epoch)
        found[epoch.run_id] = wire["values"] | wire["nonfinite"]
    return found


def _best_epochs(runs: Sequence[Run]) -> dict[int, dict[str, float | None]]:
    counted = EpochMetric.objects.counted().filter(run__in=runs).order_by().values("run")
    ends = {f"best_{name}": end(name) for name, end in BEST_OF.items()}
    rows = counted.annotate(**ends).values_list("run", *ends)
    return {run_id: dict(zip(BEST_OF, best, strict=True)) for run_id, *best in rows}


def series_names(found: dict[int, Measured], axis: Axis) -> list[str]:
    """Return the names of the series of any of the runs on an axis, in natural order."""
    names = {name for one in found.values() for name, series in one.series.items() if series.axis == axis}
    return sorted(names, key=natural_key)[:MOST_SERIES]


def epoch_names(found: dict[int, Measured]) -> list[str]:
    """Return the names of the epoch metrics of any of the runs, the usual ones first."""
    names = {name for one in found.values() for name in one.last_epoch}
    others = sorted(names - set(EpochMetric.COLUMNS), key=natural_key)
    return ([name for name in EpochMetric.COLUMNS if name in names] + others)[:MOST_SERIES]
