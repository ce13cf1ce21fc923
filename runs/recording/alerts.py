"""Alerts of a run: each function writes row and event in one transaction.

Findings of a detector or a training are only written for the attempt that holds the run: the run's row is locked first,
as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from runs.models import OF_CODE, Alert, AlertRule, AlertState, Attempt, DeliveryMoment, Run, alert_as_wire
from runs.models.alerts import LONGEST_NAME, LONGEST_TEXT, LONGEST_TITLE, LONGEST_USUAL
from runs.protocol.causes import AfterRollBack, AlertCause, stored
from runs.protocol.events import AlertChanged, LogLine, LogWritten
from runs.recording import deliveries, feed

# If a point or record arrives this long after it was logged, its alert is marked as late.
LATE_S = 60.0
# Per attempt. More alerts are not useful, and each is a row, two or three events and a line of the page.
MOST_OF_CODE = 200
MOST_OF_DETECTORS = 200
# For a rule that is snoozed until its alert clears.
UNTIL_CLEARED = datetime(9999, 12, 31, tzinfo=UTC)
LASTING = (AlertState.OPEN, AlertState.ACKNOWLEDGED)


@dataclass(frozen=True, slots=True)
class Finding:
    """An alert that begins: the fields of `runs.models.Alert` with these names."""

    detector: str
    severity: str
    title: str
    began_at: datetime
    text: str = ""
    cause: AlertCause | None = None
    series: str = ""
    step: int | None = None
    onset: int | None = None
    value: float | None = None
    nonfinite: str = ""
    usual: str = ""
    late: bool = False
    # The rule that applies, whether destinations are notified, and the action to follow (`runs.models.RuleAction`).
    rule_id: int | None = None
    is_told: bool = True
    action: str = ""


def is_late(logged: float, now: float) -> bool:
    """Return whether a record that was logged at `logged` is late; both in seconds since the epoch."""
    return now - logged > LATE_S


def begin(run_id: int, attempt: int, finding: Finding, *, of_ended: bool = False) -> Alert | None:
    """Record an alert that begins and notify viewers; None if the attempt has ended or another holds the run.

    With `of_ended` the attempt may have ended, because the alert is about its end.
    """
    with transaction.atomic():
        if not (_lock(run_id) == attempt if of_ended else _holds(run_id, attempt)):
            return None
        alert = Alert.objects.create(
            run_id=run_id,
            attempt=attempt,
            detector=finding.detector,
            series=finding.series,
            severity=finding.severity,
            title=finding.title[:LONGEST_TITLE],
            text=finding.text[:LONGEST_TEXT],
            cause=stored(finding.cause),
            step=finding.step,
            onset=finding.onset,
            began_at=finding.began_at,
            value=finding.value,
            nonfinite=finding.nonfinite,
            usual=finding.usual[:LONGEST_USUAL],
            late=finding.late,
            rule_id=_rule_left(finding.rule_id),
            action=finding.action,
        )
        _notify(alert)
        if finding.is_told and not finding.late:
            deliveries.queue(alert, DeliveryMoment.BEGAN)
    return alert


def has_room(run_id: int, attempt: int, detector: str) -> bool:
    """Return whether another alert of this detector, or of the training's own code, may be recorded."""
    recorded = Alert.objects.filter(run_id=run_id, attempt=attempt)
    if detector == OF_CODE:
        return recorded.filter(detector=OF_CODE).count() < MOST_OF_CODE
    return recorded.exclude(detector=OF_CODE).count() < MOST_OF_DETECTORS


def leave_out(run_id: int, attempt: int, count: int = 1) -> None:
    """Count alerts that are not recorded."""
    Attempt.objects.filter(run_id=run_id, number=attempt).update(alerts_left_out=F("alerts_left_out") + count)


def note_left_out(run_id: int, attempt: int) -> None:
    """Log on the console how many alerts of an attempt were not recorded. Call once, when it ends."""
    counts = Attempt.objects.filter(run_id=run_id, number=attempt).values_list("alerts_left_out", flat=True)
    left_out = counts.first()
    if left_out:
        text = f"{left_out} more alert{'s were' if left_out > 1 else ' was'} not recorded."
        lines = [LogLine(text=text, source="steersman", level="warning")]
        feed.append(run_id, LogWritten(attempt=attempt, lines=lines))


def explain(run_id: int, attempt: int, alert_id: int, text: str, cause: AlertCause) -> bool:
    """Record the text and the cause of an active alert, which was found later; return whether this call did."""
    with transaction.atomic():
        if not _holds(run_id, attempt):
            return False
        alert = Alert.objects.filter(pk=alert_id, run_id=run_id, state__in=LASTING).first()
        if alert is None:
            return False
        alert.cause, alert.text = stored(cause), text[:LONGEST_TEXT]
        alert.save(update_fields=["cause", "text"])
        _notify(alert)
    return True


def clear(run_id: int, attempt: int, alert_id: int, step: int | None = None) -> bool:
    """Record that an alert cleared, at `step` if it is known; return whether this call did. Notifies viewers."""
    with transaction.atomic():
        if not _holds(run_id, attempt):
            return False
        return bool(_clear(Alert.objects.filter(pk=alert_id, run_id=run_id, state__in=LASTING), step))


def clear_all(run_id: int) -> int:
    """Clear the active alerts of detectors when no process judges the run any more; return how many. Notifies
    viewers.

    Alerts from the training's own code stay: they describe the past, and no later point withdraws them. Call inside the
    transaction that ends an attempt, after the run's row is locked.
    """
    return _clear(Alert.objects.filter(run_id=run_id, state__in=LASTING).exclude(detector=OF_CODE), None)


def clear_detector(run_id: int, detector: str) -> int:
    """Clear the active alerts of one detector; return how many. Call inside a transaction. Notifies viewers."""
    _lock(run_id)
    return _clear(Alert.objects.filter(run_id=run_id, detector=detector, state__in=LASTING), None)


def acknowledge(run_id: int, alert_id: int, user_id: int | None, name: str) -> bool:
    """Record that a person acknowledged an open alert; return whether this call did. Notifies viewers."""
    with transaction.atomic():
        _lock(run_id)
        opened = Alert.objects.filter(pk=alert_id, run_id=run_id, state=AlertState.OPEN)
        seen = opened.update(
            state=AlertState.ACKNOWLEDGED,
            acknowledged_by=user_id,
            acknowledged_name=name[:LONGEST_NAME],
            acknowledged_at=timezone.now(),
        )
        if seen:
            _notify(Alert.objects.get(pk=alert_id))
    return bool(seen)


def _clear(lasting: Iterable[Alert], step: int | None) -> int:
    now = timezone.now()
    cleared = list(lasting)
    for alert in cleared:
        _end_snooze(alert)
        alert.state, alert.cleared_at, alert.cleared_step = AlertState.CLEARED, now, step
        alert.save(update_fields=["state", "cleared_at", "cleared_step"])
        _notify(alert)
        deliveries.queue(alert, DeliveryMoment.CLEARED)
    return len(cleared)


def note_action(alert: Alert) -> None:
    """Record the outcome of an alert's action from its fields. Notifies viewers. Call inside a transaction."""
    alert.save(update_fields=["action_state", "action_text", "held_back", "command"])
    _notify(alert)


def note_after_roll_back(alert_id: int, found: AfterRollBack) -> bool:
    """Record the result of a rollback for an alert; return whether this call did. Notifies viewers, and
    the destinations that were notified of the alert."""
    with transaction.atomic():
        run_id = Alert.objects.values_list("run_id", flat=True).get(pk=alert_id)
        _lock(run_id)
        alert = Alert.objects.filter(pk=alert_id, after_roll_back={}).first()
        if alert is None:
            return False
        alert.after_roll_back = stored(found)
        alert.save(update_fields=["after_roll_back"])
        _notify(alert)
        deliveries.queue(alert, DeliveryMoment.ROLLED_BACK)
    return True


def _rule_left(rule_id: int | None) -> int | None:
    """Return the id of a rule, None if it was deleted meanwhile."""
    return None if rule_id is None else AlertRule.objects.filter(pk=rule_id).values_list("pk", flat=True).first()


def _end_snooze(alert: Alert) -> None:
    """End a snooze that was to last until this alert clears."""
    snoozed = AlertRule.objects.filter(run=alert.run_id, detector=alert.detector, series=alert.series)
    snoozed.filter(snoozed_until=UNTIL_CLEARED).update(snoozed_until=None)


def _holds(run_id: int, attempt: int) -> bool:
    """Lock the run's row; return whether `attempt` is its current one and has not ended."""
    if _lock(run_id) != attempt:
        return False
    return Attempt.objects.filter(run_id=run_id, number=attempt, ended_at=None).exists()


def _lock(run_id: int) -> int | None:
    return Run.objects.select_for_update().filter(pk=run_id).values_list("attempt", flat=True).first()


def _notify(alert: Alert) -> None:
    feed.append(alert.run_id, AlertChanged(**alert_as_wire(alert)))
