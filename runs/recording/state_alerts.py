"""Alerts of the state of a run as a whole: it crashed, restarted, is lost, or its disk is nearly full.

They do not depend on points: they are written in the transaction that changes the run's state, or, for a disk, in that
of the report with its free space.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from runs.alerts.rules import CRASH, DISK, LOST, RESTART, rule_for
from runs.alerts.titles import title_of
from runs.models import Alert, Run, Severity
from runs.protocol.causes import AlertCause, LittleSpace
from runs.recording import alerts
from runs.recording.alert_rules import rules_of
from runs.recording.alerts import LASTING, Finding
from steersman.messages.disks import GIB, DiskDefaults

SEVERITIES = {
    CRASH: Severity.CRITICAL,
    RESTART: Severity.WARNING,
    LOST: Severity.CRITICAL,
    DISK: Severity.WARNING,
}


def crashed(run_id: int, attempt: int, error: str, cause: AlertCause | None = None) -> None:
    """Begin the alert of a failed attempt.

    Call in the transaction that ends it, after its other alerts were cleared.
    """
    _begin(run_id, attempt, CRASH, error, cause=cause, of_ended=True)


def restarted(run_id: int, attempt: int) -> None:
    """Begin the alert of a restart after a failure. Call in the transaction that opens the attempt."""
    error = Run.objects.get(pk=run_id).attempts.filter(number=attempt - 1).values_list("error", flat=True).first()
    _begin(run_id, attempt, RESTART, error or "")


def lost(run_id: int, attempt: int, cause: AlertCause) -> None:
    """Begin the alert of a lost run. Call in the transaction that sets it lost."""
    if alerts.has_room(run_id, attempt, LOST):
        _begin(run_id, attempt, LOST, str(cause), cause=cause)
    else:
        alerts.leave_out(run_id, attempt)


def heartbeats_returned(run_id: int) -> None:
    """Clear the alert of a lost run. Call in the transaction that sets it running, after its row is locked."""
    alerts.clear_detector(run_id, LOST)


def note_disk(run_id: int, attempt: int, free: int, total: int, defaults: DiskDefaults | None = None) -> None:
    """Begin or clear the alert of the disk to which a live run writes; `free` and `total` in bytes."""
    defaults = defaults or DiskDefaults()
    lasts = Alert.objects.filter(run_id=run_id, detector=DISK, state__in=LASTING).exists()
    if lasts and defaults.is_well(free, total):
        with transaction.atomic():
            alerts.clear_detector(run_id, DISK)
    elif not lasts and defaults.is_full(free, total) and alerts.has_room(run_id, attempt, DISK):
        cause = LittleSpace(free=round(free / GIB, 3), total=round(total / GIB, 3))
        _begin(run_id, attempt, DISK, str(cause), cause=cause, value=cause.free)


def _begin(
    run_id: int,
    attempt: int,
    detector: str,
    text: str,
    *,
    cause: AlertCause | None = None,
    of_ended: bool = False,
    value: float | None = None,
) -> None:
    run = Run.objects.get(pk=run_id)
    now = timezone.now()
    rule = rule_for(rules_of(run), detector, "", now.timestamp())
    if not rule.is_on:
        return
    finding = Finding(
        detector=detector,
        severity=rule.severity or SEVERITIES[detector],
        title=title_of(detector)[0],
        text=text,
        cause=cause,
        step=run.step,
        began_at=now,
        value=value,
        rule_id=rule.id,
        is_told=rule.tells and not rule.is_snoozed(now.timestamp()),
    )
    alerts.begin(run_id, attempt, finding, of_ended=of_ended)
