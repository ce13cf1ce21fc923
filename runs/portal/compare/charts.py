"""The charts of a comparison: one per metric, in groups; metrics that several runs have come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.utils.translation import gettext as _

from runs.models import Axis, Series
from runs.portal.compare.metrics import Measured, epoch_names, series_names
from runs.protocol.series_names import LOSS_NAMES, natural_key

# The prefix of epoch metrics, whose name may also be the name of a series.
EPOCH = "epoch:"
# As on a run page (static/js/panels/charts/series_names.js).
FIRST_GROUPS = ("train", "validation", "", "optimizer", "speed")
LAYERS = "layers"


@dataclass(frozen=True, slots=True)
class ChartOffer:
    """A metric that can be drawn. `key` names it in requests, `runs` is the number of runs that have it.

    `pin` names it among the pinned charts of a project, as on the page of the first run that has it.
    """

    key: str
    name: str
    axis: str
    runs: int
    pin: str


@dataclass(frozen=True, slots=True)
class ChartGroup:
    """Charts under one heading. Groups that are not `open` are folded at first. `key` is the same in all languages."""

    key: str
    title: str
    charts: list[ChartOffer]
    open: bool = True

    def for_page(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "title": self.title,
            "open": self.open,
            "charts": [asdict(one) for one in self.charts],
        }


def chart_groups(found: dict[int, Measured]) -> list[ChartGroup]:
    """Return the groups of charts of these runs: metrics by the first part of their names, epochs, machines.

    Metrics of only one of several runs have their own group.
    """
    series = [one.series for one in found.values()]
    measures = [one.last_epoch for one in found.values()]
    steps = [_offer(name, name, Axis.STEP, series) for name in series_names(found, Axis.STEP)]
    epochs = [_offer(EPOCH + name, name, Axis.STEP, measures) for name in epoch_names(found)]
    machine = [_offer(name, name, Axis.TIME, series) for name in series_names(found, Axis.TIME)]
    single = [one for one in (*steps, *epochs) if one.runs == 1 < len(found)]
    groups = [
        *_by_prefix([one for one in steps if one not in single]),
        ChartGroup("epochs", _("Epochs"), [one for one in epochs if one not in single]),
        ChartGroup("single", _("Only in one of the runs"), single, open=False),
        ChartGroup("machine", _("Machine"), machine, open=False),
    ]
    shown = [group for group in groups if group.charts]
    # If the runs share no metric, all groups are open.
    return shown if any(group.open for group in shown) else [replace(one, open=True) for one in shown]


def _offer(key: str, name: str, axis: Axis, owned: Sequence[Mapping[str, Any]]) -> ChartOffer:
    found = [one[name] for one in owned if name in one]
    # A series may be compared under another name than its own.
    pin = found[0].name if found and isinstance(found[0], Series) else key
    return ChartOffer(key, name, str(axis), len(found), pin)


def _by_prefix(charts: list[ChartOffer]) -> list[ChartGroup]:
    groups: dict[str, list[ChartOffer]] = {}
    for chart in charts:
        groups.setdefault(chart.name.partition("/")[0] if "/" in chart.name else "", []).append(chart)
    titles = {
        "train": _("Train"),
        "validation": _("Validation"),
        "": _("Metrics"),
        "optimizer": _("Optimizer"),
        "speed": _("Speed"),
        LAYERS: _("Layers"),
    }

    def place(prefix: str) -> tuple[bool, int, Any]:
        first = FIRST_GROUPS.index(prefix) if prefix in FIRST_GROUPS else len(FIRST_GROUPS)
        return prefix == LAYERS, first, natural_key(prefix)

    return [
        ChartGroup(
            f"{prefix}/",
            titles.get(prefix, prefix),
            sorted(groups[prefix], key=lambda one: one.name not in LOSS_NAMES),
            open=prefix != LAYERS,
        )
        for prefix in sorted(groups, key=place)
    ]
