"""Snoozes an alert: creates a rule for its run, which otherwise equals the rule that applied before."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from runs.alerts.rules import rule_for
from runs.models import OF_CODE, Alert, AlertRule, Run
from runs.recording.alert_rules import fields_of, rules_of
from runs.recording.alerts import LASTING, UNTIL_CLEARED


class CannotSnooze(Exception):
    """The alert has no rule, or has ended."""


def snooze(alert_id: int, until: datetime | None, user_id: int | None) -> AlertRule:
    """Record alerts of the detector in this series without messages or actions until `until`.

    None: until the alert clears. Creates or changes the rule of the run for this detector and series; a new one is a
    copy of the current rule. Raises `CannotSnooze`, and `Alert.DoesNotExist`.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().get(alerts=alert_id)
        alert = Alert.objects.get(pk=alert_id)
        if alert.detector == OF_CODE:
            raise CannotSnooze("code")
        if until is None and alert.state not in LASTING:
            raise CannotSnooze("cleared")
        holds = rule_for(rules_of(run), alert.detector, alert.series, timezone.now().timestamp())
        rule, _ = AlertRule.objects.get_or_create(
            run=run,
            detector=alert.detector,
            series=alert.series,
            defaults={"project_id": run.project_id, **fields_of(holds)},
        )
        rule.snoozed_until = until or UNTIL_CLEARED
        rule.changed_by_id = user_id
        rule.save(update_fields=["snoozed_until", "changed_by", "changed_at"])
    return rule
