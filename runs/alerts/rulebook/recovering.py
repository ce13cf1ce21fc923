"""Chooses the checkpoint for a rollback after a fault, and the value of the knob."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from runs.alerts.detectors.kinds import is_learning_rate
from runs.models import Alert, Checkpoint, Command, CommandState, RuleAction, Run
from runs.protocol.causes import BeganInLayer, alert_cause
from runs.protocol.commands import RollBack, SetKnob
from runs.recording.checkpoints import FAULTS
from runs.recording.record_side.lineage import lineage


@dataclass(frozen=True, slots=True)
class Recovery:
    """A rollback to a checkpoint; its `knob`, as it was there, is multiplied by `factor`. "" and None mean no knob.

    `skip_batches` batches before the step `fault` are left out, and the same number from it on.
    """

    checkpoint: Checkpoint
    knob: str = ""
    factor: float | None = None
    skip_batches: int = 0
    fault: int = 0

    @property
    def command(self) -> RollBack:
        return RollBack(
            checkpoint=str(self.checkpoint.pk),
            knob=self.knob,
            factor=self.factor,
            skip_batches=2 * self.skip_batches,
            skip_from=max(1, self.fault - self.skip_batches) if self.skip_batches else None,
        )

    @property
    def text(self) -> str:
        """Return checkpoint and changes in symbols, which need no translation."""
        changed = f", {self.knob} × {self.factor:g}" if self.factor is not None else ""
        skipped = f", {self.fault:,} ± {self.skip_batches:,}" if self.skip_batches else ""
        return f"→ {self.checkpoint.name} ({self.checkpoint.step:,}){changed}{skipped}"


def recovery_from(
    run: Run,
    alert: Alert,
    knob: str,
    factor: float | None,
    *,
    factor_from: int = 1,
    skip_batches: int = 0,
    skip_from: int = 1,
) -> Recovery | None:
    """Return the rollback for the fault of an alert: to the run's newest good checkpoint before it.

    A checkpoint that a rule has already rolled back to in this attempt did not help, and one that the training has
    refused may be damaged, so each rollback chooses an earlier one. That restores an earlier value of the knob, so the
    factor is applied once for each of them, from number `factor_from` on, and batches are skipped from number
    `skip_from` on. None if there is no checkpoint.
    """
    tried = list(_by_rules(run))
    used = {command.arguments.get("checkpoint") for command in (*tried, *_refused(run))}
    fault = fault_step(run, alert)
    for checkpoint in lineage(run):
        if checkpoint.good and checkpoint.step < fault and str(checkpoint.pk) not in used:
            number = 1 + sum(command.sent_at > checkpoint.created_at for command in tried)
            skipped = skip_batches if number >= skip_from else 0
            if factor is None or number < factor_from:
                return Recovery(checkpoint, skip_batches=skipped, fault=fault)
            return Recovery(checkpoint, knob, factor ** (1 + number - factor_from), skipped, fault)
    return None


def offers_recovery(alert: Alert) -> bool:
    """Return whether the run of an alert can go back to a good checkpoint and change its learning rate."""
    run = alert.run
    if alert.detector not in FAULTS or run.withholds(RollBack.kind):
        return False
    return any(map(is_learning_rate, run.knob_specs)) and recovery_from(run, alert, "", None) is not None


def fault_step(run: Run, alert: Alert) -> int:
    """Return the earliest known step of the fault."""
    cause = alert_cause(alert.cause)
    steps = [run.step if alert.step is None else alert.step]
    steps += [] if alert.onset is None else [alert.onset]
    return min([*steps, cause.step] if isinstance(cause, BeganInLayer) else steps)


def knob_numbers(run: Run, knob: str) -> list[float | int]:
    """Return the numbers that a knob has now, one per parameter group; empty if there is none or it is unknown."""
    found = next((each.get("value") for each in run.knobs if each["name"] == knob), None)
    values = found.values() if isinstance(found, dict) else (found,)
    return [each for each in values if isinstance(each, (int, float)) and not isinstance(each, bool)]


def knob_numbers_at(run: Run, knob: str, checkpoint: Checkpoint) -> list[float | int]:
    """Return the numbers that a knob had when a checkpoint was saved: those before the first change since then."""
    changes = run.commands.filter(kind=SetKnob.kind, state=CommandState.APPLIED, applied_at__gt=checkpoint.created_at)
    first = changes.filter(arguments__knob=knob).order_by("applied_at", "sent_at").first()
    old = None if first is None else first.old_value
    values = list(old.values()) if isinstance(old, dict) else [old]
    numbers = [each for each in values if isinstance(each, (int, float)) and not isinstance(each, bool)]
    return numbers or knob_numbers(run, knob)


def _refused(run: Run) -> QuerySet[Command]:
    """Return the rollbacks that the present attempt refused, whoever sent them."""
    return Command.objects.filter(run=run, attempt=run.attempt, kind=RollBack.kind, state=CommandState.REFUSED)


def _by_rules(run: Run) -> QuerySet[Command]:
    """Return the rollbacks of this attempt that rules sent and the training did not refuse."""
    # A command has an attempt only after it is delivered.
    asked = Command.objects.filter(alerts__run=run, alerts__attempt=run.attempt, alerts__action=RuleAction.ROLL_BACK)
    return asked.exclude(state__in=(CommandState.REFUSED, CommandState.EXPIRED))
