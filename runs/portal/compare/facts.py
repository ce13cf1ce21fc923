"""Parameters and metrics of runs, as columns that can be plotted against each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from runs.models import Axis, Run
from runs.portal.compare.metrics import BEST_OF, Measured, epoch_names, low_is_good, series_names
from runs.protocol.series_names import natural_key

MOST_PARAMETERS = 100
MOST_METRICS = 200

Value = float | str | None


@dataclass(frozen=True, slots=True)
class Fact:
    """One column: `values` has a number or text for each run, None if the run has no (finite) value.

    `low_is_good` is None for parameters, and if the name of a metric does not show it.
    """

    key: str
    title: str
    is_metric: bool
    low_is_good: bool | None
    values: list[Value]

    def for_page(self) -> dict[str, Any]:
        return {"key": self.key, "title": self.title, "is_metric": self.is_metric, "values": self.values}


def facts_of(runs: Sequence[Run], found: dict[int, Measured]) -> list[Fact]:
    """Return the parameters that differ, then the metrics of any of the runs."""
    return _parameters(runs) + _metrics(runs, found)


def _parameters(runs: Sequence[Run]) -> list[Fact]:
    having = Counter(name for run in runs for name in run.parameters)
    names = sorted(having, key=lambda name: (-having[name], natural_key(name)))
    columns: list[tuple[str, str, list[Value]]] = [
        (f"parameter:{name}", name, [_value(run.parameters.get(name)) for run in runs]) for name in names
    ]
    columns += [
        ("seed", _("seed"), [float(run.seed) for run in runs]),
        ("device", _("device"), [run.device for run in runs]),
        ("recipe", _("recipe"), [run.recipe.spec if run.recipe else _("own script") for run in runs]),
    ]
    found = [Fact(key, title, False, None, values) for key, title, values in columns if len(set(values)) > 1]
    return found[:MOST_PARAMETERS]


def _metrics(runs: Sequence[Run], found: dict[int, Measured]) -> list[Fact]:
    own = [found[run.pk] for run in runs]
    columns: list[tuple[str, str, str, list[Any]]] = []
    for name in series_names(found, Axis.STEP):
        points = [one.series.get(name) for one in own]
        values = [point.last_value if point else None for point in points]
        columns.append((f"last:{name}", f"{name} ({_('last')})", name, values))
    for name in epoch_names(found):
        last = [one.last_epoch.get(name) for one in own]
        columns.append((f"epoch:{name}", f"{name} ({_('last epoch')})", name, last))
        if name in BEST_OF:
            end = _("lowest") if low_is_good(name) else _("highest")
            columns.append((f"best:{name}", f"{name} ({end})", name, [one.best_epoch.get(name) for one in own]))
    facts = [
        Fact(key, title, True, low_is_good(name), [_number(value) for value in values])
        for key, title, name, values in columns[:MOST_METRICS]
    ]
    # Losses, then accuracies, because people look for these first.
    return sorted(facts, key=lambda fact: (True, False, None).index(fact.low_is_good))


def _number(value: Any) -> Value:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _value(value: Any) -> Value:
    number = _number(value)
    return number if number is not None or value is None else str(value)
