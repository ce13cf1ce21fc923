"""Fields for searching and sorting runs: their own properties, parameters, and the last, least and greatest values of
their series.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from django.db.models import Expression, F, Subquery
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from runs.models import EpochMetric, RunQuerySet, Series
from runs.selection.expressions import (
    BEST_OF,
    ParameterNumber,
    ParameterText,
    best_epoch_value,
    epoch_value,
    extreme_value,
    first_tag,
    gpu_hours,
    last_host,
    last_loss,
    last_value,
    progress,
)

PARAMETER = "parameter:"
LAST = "last:"
LEAST = "min:"
GREATEST = "max:"
EPOCH = "epoch:"
BEST = "best:"
# The column of `Series` that each of these names.
OF_SERIES = {LAST: "last_value", LEAST: "least_value", GREATEST: "greatest_value"}
# The usual epoch metrics. `learning_rate` is excluded, because most trainings have a parameter of this name.
MEASURES = frozenset(EpochMetric.COLUMNS) - {"learning_rate"}
# The maximum length of a series name.
LONGEST_KEY = 210


class Kind(Enum):
    """How the values of a field compare."""

    TEXT = "text"
    NUMBER = "number"
    DURATION = "duration"
    MOMENT = "moment"
    # A number or a text, like a parameter.
    PARAMETER = "parameter"


@dataclass(frozen=True, slots=True)
class Field:
    """One property of a run. `key` names it in addresses, `title` for people; a dynamic field has no other title than
    its name.
    """

    key: str
    title: str | Promise
    kind: Kind
    expression: Callable[[], Expression | F | Subquery]


def _column(name: str) -> Callable[[], F]:
    return lambda: F(name)


_OWN = (
    Field("state", _("State"), Kind.TEXT, _column("state")),
    Field("name", _("Run"), Kind.TEXT, _column("name")),
    Field("id", _("Number"), Kind.NUMBER, _column("pk")),
    Field("project", _("Project"), Kind.TEXT, _column("project__name")),
    Field("tag", _("Tags"), Kind.TEXT, first_tag),
    Field("recipe", _("Recipe"), Kind.TEXT, _column("recipe__spec")),
    Field("progress", _("Progress"), Kind.NUMBER, progress),
    Field("step", _("Step"), Kind.NUMBER, _column("step")),
    Field("epoch", _("Epoch"), Kind.NUMBER, _column("epoch")),
    Field("best", _("Best"), Kind.NUMBER, _column("best_metric")),
    Field("loss", _("Last loss"), Kind.NUMBER, last_loss),
    Field("created", _("Created"), Kind.MOMENT, _column("created_at")),
    Field("started", _("Started"), Kind.MOMENT, _column("started_at")),
    Field("ended", _("Ended"), Kind.MOMENT, _column("ended_at")),
    Field("duration", _("Duration"), Kind.DURATION, _column("trained_s")),
    Field("gpu_hours", _("GPU hours"), Kind.NUMBER, gpu_hours),
    Field("author", _("By"), Kind.TEXT, _column("created_by__username")),
    Field("host", _("Host"), Kind.TEXT, last_host),
    Field("device", _("Device"), Kind.TEXT, _column("device")),
    Field("seed", _("Seed"), Kind.NUMBER, _column("seed")),
    Field("attempt", _("Attempts"), Kind.NUMBER, _column("attempt")),
    Field("ranks", _("Ranks"), Kind.NUMBER, _column("ranks")),
    Field("reason", _("Reason"), Kind.TEXT, _column("reason")),
)
OWN_FIELDS = {field.key: field for field in _OWN}


def field_of(key: str) -> Field | None:
    """Return the field for a key in an address, None if the key has no valid form."""
    if len(key) > LONGEST_KEY:
        return None
    if key.startswith(PARAMETER) and (name := key.removeprefix(PARAMETER)):
        return Field(key, name, Kind.PARAMETER, lambda: ParameterNumber(name))
    if key.startswith(LAST) and (name := key.removeprefix(LAST)):
        return Field(key, name, Kind.NUMBER, lambda: last_value(name))
    for prefix in (LEAST, GREATEST):
        if key.startswith(prefix) and (name := key.removeprefix(prefix)):
            return Field(key, name, Kind.NUMBER, partial(extreme_value, OF_SERIES[prefix], name))
    if key.startswith(EPOCH) and (name := key.removeprefix(EPOCH)):
        return Field(key, name, Kind.NUMBER, lambda: epoch_value(name))
    if key.startswith(BEST) and (name := key.removeprefix(BEST)) in BEST_OF:
        return Field(key, name, Kind.NUMBER, lambda: best_epoch_value(name))
    return OWN_FIELDS.get(key)


def find_field(name: str, runs: RunQuerySet) -> Field | None:
    """Return the field that a person calls `name`: a property, or a series, a parameter or an epoch metric of `runs`.

    Takes up to three queries for a name that is not a property.
    """
    if (field := field_of(name)) is not None:
        return field
    if len(name) > LONGEST_KEY:
        return None
    if Series.objects.filter(run__in=runs, name=name).exists():
        return field_of(f"{LAST}{name}")
    if name in MEASURES:
        return field_of(f"{EPOCH}{name}")
    if runs.alias(sought=ParameterText(name)).filter(sought__isnull=False).exists():
        return field_of(f"{PARAMETER}{name}")
    if _is_of_epochs(name, runs):
        return field_of(f"{EPOCH}{name}")
    return None


def _is_of_epochs(name: str, runs: RunQuerySet) -> bool:
    """Return whether an epoch of one of the runs has a metric of this name, other than the usual ones."""
    measures = EpochMetric.objects.filter(run__in=runs).exclude(extra={})
    return measures.alias(sought=ParameterNumber(name, "extra")).filter(sought__isnull=False).exists()
