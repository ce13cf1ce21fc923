"""The result of a rollback for an alert: the run trains as before the fault, or a fault began again."""

from __future__ import annotations

from collections.abc import Callable, Collection

from django.db.models import QuerySet

from runs.models import Alert, Command, CommandState, Severity
from runs.protocol.causes import FaultReturned, OfLink, Recovered, command_cause
from runs.protocol.commands import RollBack
from runs.recording import alerts
from runs.recording.checkpoints import FAULTS, QUIET_STEPS


def note_roll_backs(run_id: int, attempt: int, step: int, recent: Callable[[str], str], seen: Collection[str]) -> int:
    """Record what followed the rollbacks of an attempt, once it is known; return how many of them this call did.

    `step` is the one up to which the detectors have judged, `recent` returns the newest values of a series as a text.
    `seen` has the ids of the rollbacks that the detectors have seen. What followed is known once a fault has begun
    again, or `QUIET_STEPS` steps after the one where the fault began.
    """
    applied = _roll_backs().filter(run_id=run_id, attempt=attempt)
    return sum(_note(command, step, recent, str(command.pk) in seen) for command in applied.order_by("applied_at"))


def with_roll_backs(run_ids: Collection[int]) -> set[tuple[int, int | None]]:
    """Return (run, attempt) of the attempts that have rollbacks for `note_roll_backs`."""
    return set(_roll_backs().filter(run__in=run_ids).order_by().values_list("run_id", "attempt"))


def _roll_backs() -> QuerySet[Command]:
    return Command.objects.filter(kind=RollBack.kind, state=CommandState.APPLIED)


def _note(command: Command, step: int, recent: Callable[[str], str], is_seen: bool) -> bool:
    alert = _alert_of(command)
    if alert is None or alert.after_roll_back:
        return False
    faults = Alert.objects.filter(run=alert.run_id, attempt=alert.attempt, detector__in=FAULTS)
    again = faults.filter(began_at__gt=command.applied_at).exclude(severity=Severity.INFO).order_by("began_at").first()
    if again is not None:
        return alerts.note_after_roll_back(alert.pk, FaultReturned(step=again.step or 0))
    # Detectors that have not seen the rollback yet are at an earlier step than the training was.
    last = max(0 if is_seen else command.step or 0, (alert.step or 0) + QUIET_STEPS - 1)
    now = recent(alert.series)
    if step <= last or not now:
        return False
    return alerts.note_after_roll_back(alert.pk, Recovered(series=alert.series, step=step, now=now, before=alert.usual))


def _alert_of(command: Command) -> Alert | None:
    """Return the alert for which a rule, or a person by a link of a message, rolled a run back."""
    cause = command_cause(command.cause)
    if isinstance(cause, OfLink):
        return Alert.objects.filter(run=command.run_id, pk=cause.alert).first()
    return command.alerts.first()
