"""Alerts on trainings, from detectors or from the training's own code."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from runs.models.alert_rules import AlertRule, RuleAction, Severity
from runs.models.commands import Command
from runs.models.runs import Run
from runs.protocol.causes import OF_CODE as OF_CODE
from runs.protocol.events import iso

LONGEST_TITLE = 200
LONGEST_TEXT = 2000
LONGEST_USUAL = 100
LONGEST_NAME = 150


class AlertState(models.TextChoices):
    """An acknowledged alert lasts until it is cleared."""

    OPEN = "open", pgettext_lazy("state of an alert", "open")
    ACKNOWLEDGED = "acknowledged", _("acknowledged")
    CLEARED = "cleared", _("cleared")


class ActionState(models.TextChoices):
    """The outcome of the action of an alert's rule."""

    ASKED = "asked", _("asked of the run")
    DRY_RUN = "dry_run", _("dry run")
    HELD_BACK = "held_back", _("held back")


class HeldBack(models.TextChoices):
    """Why a rule did not act."""

    RULE_CHANGED = "rule_changed", _("The rule was changed or deleted.")
    ATTEMPT_ENDED = "attempt_ended", _("Its attempt had ended.")
    SAME_CAUSE = (
        "same_cause",
        _("A rule has already done this for another alert that began within a minute of this one."),
    )
    REPLAYED = "replayed", _("The run replays another run, so actions of rules are repeated from there.")
    ACTED_IN_ATTEMPT = "acted_in_attempt", _("The rule has reached its limit of actions per attempt.")
    ACTED_OFTEN = "acted_often", _("The rule has reached its limit of actions per hour.")
    NOT_DONE = "not_done", _("The training does not support saving checkpoints.")
    NO_ROLL_BACK = "no_roll_back", _("The training cannot be rolled back.")
    NO_CHECKPOINT = "no_checkpoint", _("The run has no good checkpoint before the fault.")
    NO_KNOB = "no_knob", _("The training has no such knob.")
    TOO_SMALL = "too_small", _("The value would be smaller than the rule allows.")


class Alert(models.Model):
    """A fault of an attempt, from the step where it began until it is cleared.

    `onset` is the step at which the fault began if the detector took several blocks of the curve to find it, otherwise
    null. `value` is the judged value, null if there is none or it is not finite (then named in `nonfinite`); `usual` is
    the usual value before, such as "0.31 ± 0.02". `late`: the point was old when it was judged. Titles and texts are in
    English: `runs.alerts.wording` translates those of detectors, and makes texts from `cause`, which
    `runs.protocol.causes` stores.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="alerts", verbose_name=_("run"))
    attempt = models.PositiveIntegerField(_("attempt"))
    detector = models.CharField(_("detector"), max_length=40)
    series = models.CharField(_("series"), max_length=200, blank=True)
    severity = models.CharField(_("severity"), max_length=10, choices=Severity)
    title = models.CharField(_("title"), max_length=LONGEST_TITLE)
    text = models.CharField(_("text"), max_length=LONGEST_TEXT, blank=True)
    cause = models.JSONField(default=dict, blank=True)
    step = models.BigIntegerField(_("step"), null=True, blank=True)
    onset = models.BigIntegerField(null=True, blank=True, editable=False)
    began_at = models.DateTimeField(_("began at"))
    value = models.FloatField(_("value"), null=True, blank=True)
    nonfinite = models.CharField(_("not finite"), max_length=4, blank=True)
    usual = models.CharField(_("usual"), max_length=LONGEST_USUAL, blank=True)
    late = models.BooleanField(_("late"), default=False)
    state = models.CharField(_("state"), max_length=12, choices=AlertState, default=AlertState.OPEN)
    cleared_at = models.DateTimeField(_("cleared at"), null=True, blank=True)
    cleared_step = models.BigIntegerField(_("cleared at step"), null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="acknowledged_alerts",
        verbose_name=_("acknowledged by"),
    )
    acknowledged_name = models.CharField(_("acknowledged by"), max_length=LONGEST_NAME, blank=True)
    acknowledged_at = models.DateTimeField(_("acknowledged at"), null=True, blank=True)

    # The rule that applied when the alert began, and its action: `command` if it sent one to the run.
    rule = models.ForeignKey(
        AlertRule, models.SET_NULL, null=True, blank=True, related_name="alerts", verbose_name=_("rule")
    )
    action = models.CharField(_("action"), max_length=20, choices=RuleAction, blank=True)
    action_state = models.CharField(_("state of the action"), max_length=10, choices=ActionState, blank=True)
    action_text = models.CharField(_("what the action did"), max_length=200, blank=True)
    held_back = models.CharField(_("why the rule did not act"), max_length=20, choices=HeldBack, blank=True)
    command = models.ForeignKey(
        Command, models.SET_NULL, null=True, blank=True, related_name="alerts", verbose_name=_("command")
    )

    # The result of a rollback for this alert, as `runs.protocol.causes` stores it.
    after_roll_back = models.JSONField(default=dict, blank=True, editable=False)

    class Meta:
        ordering = ["run", "-id"]
        indexes = [models.Index(fields=["run", "state"], name="alert_by_state")]
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")

    def __str__(self) -> str:
        # Titles of detectors are translated.
        title = self.title if self.detector == OF_CODE or not self.title else gettext(self.title)
        return f"{self.run_id} · {title}"


def alert_as_wire(alert: Alert) -> dict[str, Any]:
    """Return the fields of `runs.protocol.events.AlertChanged` for this row."""
    return {
        "id": alert.pk,
        "attempt": alert.attempt,
        "detector": alert.detector,
        "title": alert.title,
        "text": alert.text,
        "cause": alert.cause or None,
        "series": alert.series,
        "severity": str(alert.severity),
        "step": alert.step,
        "began_at": iso(alert.began_at),
        "value": alert.value,
        "nonfinite": alert.nonfinite,
        "usual": alert.usual,
        "state": str(alert.state),
        "late": alert.late,
        "cleared_at": iso(alert.cleared_at) if alert.cleared_at else None,
        "cleared_step": alert.cleared_step,
        "by": alert.acknowledged_name,
        "acknowledged_at": iso(alert.acknowledged_at) if alert.acknowledged_at else None,
        "action": str(alert.action),
        "action_state": str(alert.action_state),
        "action_text": alert.action_text,
        "held_back": str(alert.held_back),
        "command_id": str(alert.command_id or ""),
        "after_roll_back": alert.after_roll_back or None,
    }
