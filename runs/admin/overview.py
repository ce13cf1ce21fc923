"""The history of a run in the admin: tables of limited size and two static charts, in a few queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from runs.admin.command_log import KnobRow, as_text, command_rows, knob_rows
from runs.alerts.wording.texts import reason_of_run
from runs.branching.family import Member, branch_of, family
from runs.models import Attempt, Branch, Checkpoint, Command, EpochMetric, Run, RunState
from runs.protocol.series_names import LOSS_NAMES
from runs.recording.liveness import duration_of
from runs.series.charts import charts
from runs.series.svg_chart import columns_of, svg_chart

EPOCHS_SHOWN = 200
ROWS_SHOWN = 100
CHART_BUCKETS = 400
CHART_EPOCHS = 2000

VARIANTS: dict[str, str] = {
    RunState.CREATED: "default",
    RunState.QUEUED: "info",
    RunState.RUNNING: "primary",
    RunState.PAUSED: "warning",
    RunState.FINISHED: "success",
    RunState.STOPPED: "info",
    RunState.FAILED: "danger",
    RunState.LOST: "danger",
}


@dataclass(frozen=True, slots=True)
class Rows:
    """The newest rows of a table, and how many there are in all."""

    shown: list[Any]
    total: int

    @property
    def cut(self) -> bool:
        return self.total > len(self.shown)


@dataclass(frozen=True, slots=True)
class RunOverview:
    """The data that the page of a run shows below its name."""

    reason: str
    duration: timedelta | None
    epoch_chart: SafeString
    step_chart: SafeString
    epochs: Rows
    commands: Rows
    checkpoints: Rows
    attempts: Rows
    parameters: list[tuple[str, str]]
    environment: list[tuple[str, str]]
    knobs: list[KnobRow]
    events: list[tuple[str, int]]
    branch: Branch | None
    family: list[Member]


def overview_of(run: Run, now: datetime) -> RunOverview:
    """Return the overview of `run`. The number of queries does not depend on the size of the run."""
    epochs = list(run.epochs.order_by("-epoch", "-attempt", "-order")[:EPOCHS_SHOWN])
    attempts = list(run.attempts.order_by("-number")[:ROWS_SHOWN])
    commands = list(run.commands.order_by("-sent_at")[:ROWS_SHOWN])
    kinds = run.events.order_by("kind").values("kind").annotate(total=Count("pk")).values_list("kind", "total")
    return RunOverview(
        reason=reason_of_run(run),
        duration=duration_of(run, now),
        epoch_chart=_epoch_chart(run),
        step_chart=_step_chart(run),
        epochs=Rows(epochs, EpochMetric.objects.filter(run=run).count()),
        commands=Rows(command_rows(commands), Command.objects.filter(run=run).count()),
        checkpoints=Rows(
            list(run.checkpoints.order_by("-pk")[:ROWS_SHOWN]), Checkpoint.objects.filter(run=run).count()
        ),
        attempts=Rows(attempts, Attempt.objects.filter(run=run).count()),
        parameters=_as_text(run.parameters),
        environment=_as_text(attempts[0].environment if attempts else {}),
        knobs=knob_rows(run),
        events=list(kinds),
        branch=branch_of(run),
        family=family(run, Run.objects.all()),
    )


def as_clock(duration: timedelta | None) -> str:
    """Return a text such as "1:02:03" (hours, minutes, seconds)."""
    return "" if duration is None else str(timedelta(seconds=int(duration.total_seconds())))


def _epoch_chart(run: Run) -> SafeString:
    epochs = run.epochs.counted().newest(CHART_EPOCHS)
    columns = {
        _("training loss"): [epoch.train_loss for epoch in epochs],
        _("validation loss"): [epoch.validation_loss for epoch in epochs],
    }
    drawn = columns_of([epoch.epoch for epoch in epochs], columns)
    return svg_chart(drawn, _("Loss by epoch"), axis_label=_("epoch"))


def _step_chart(run: Run) -> SafeString:
    _seq, found = charts(run.pk, LOSS_NAMES, CHART_BUCKETS)
    return svg_chart(found, _("Training loss by step"), axis_label=_("step"))


def _as_text(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, as_text(value)) for name, value in values.items()]
