"""The command log: commands of runs, and their outcomes."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from runs.models.alert_rules import AlertRule
from runs.models.runs import Run, RunState
from runs.protocol.events import iso

# The author of a command from a shell without `--user`.
COMMAND_LINE = "the command line"


class CommandState(models.TextChoices):
    SENT = "sent", _("sent")
    DELIVERED = "delivered", _("delivered")
    APPLIED = "applied", _("applied")
    REFUSED = "refused", _("refused")
    EXPIRED = "expired", _("expired")


class Command(models.Model):
    """A command from a person or a rule. The row is stored before the command is delivered."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    run = models.ForeignKey(Run, models.CASCADE, related_name="commands", verbose_name=_("run"))
    kind = models.CharField(_("command"), max_length=30)
    arguments = models.JSONField(_("arguments"), default=dict)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="commands",
        verbose_name=_("author"),
    )
    author_name = models.CharField(_("author"), max_length=150)
    # The rule that sent it; `author_name` contains its name.
    rule = models.ForeignKey(
        AlertRule, models.SET_NULL, null=True, blank=True, related_name="commands", verbose_name=_("rule")
    )
    # The name of the other run's rule, if a replay repeats a command of a rule.
    replayed_rule = models.CharField(_("replayed rule"), max_length=150, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    # The reason as `runs.protocol.causes` stores it, if no person gave one; `reason` is then in English.
    cause = models.JSONField(default=dict, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=CommandState, default=CommandState.SENT)
    sent_at = models.DateTimeField(_("sent at"))
    delivered_at = models.DateTimeField(_("delivered at"), null=True, blank=True)
    applied_at = models.DateTimeField(_("applied at"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    at_step = models.PositiveBigIntegerField(_("at step"), null=True, blank=True)
    at_epoch = models.PositiveIntegerField(_("at epoch"), null=True, blank=True)
    # The exact number of times that the run must have been rolled back by then: a step may come several times.
    at_roll_backs = models.PositiveIntegerField(_("after rollbacks"), null=True, blank=True)
    expected_state = models.CharField(_("expected state"), max_length=10, choices=RunState, blank=True)
    expected_value = models.JSONField(_("expected value"), null=True, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), null=True, blank=True)
    ranks = models.PositiveIntegerField(_("ranks"), null=True, blank=True)
    step = models.BigIntegerField(_("step"), null=True, blank=True)
    old_value = models.JSONField(_("old value"), null=True, blank=True)
    new_value = models.JSONField(_("new value"), null=True, blank=True)
    effective_value = models.JSONField(_("value in effect"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=500, blank=True)

    class Meta:
        ordering = ["sent_at", "id"]
        indexes = [models.Index(fields=["run", "state"], name="command_by_state")]
        verbose_name = _("command")
        verbose_name_plural = _("commands")

    def __str__(self) -> str:
        return f"{self.kind} · {self.author_name}"


def as_wire(command: Command) -> dict[str, Any]:
    """Return the fields of `runs.protocol.events.CommandChanged` for this row."""
    return {
        "id": str(command.pk),
        "command": command.kind,
        "state": str(command.state),
        "author": command.author_name,
        "author_id": command.author_id,
        "arguments": command.arguments,
        "sent_at": iso(command.sent_at),
        "delivered_at": iso(command.delivered_at) if command.delivered_at else None,
        "applied_at": iso(command.applied_at) if command.applied_at else None,
        "expires_at": iso(command.expires_at) if command.expires_at else None,
        "at_step": command.at_step,
        "at_epoch": command.at_epoch,
        "at_roll_backs": command.at_roll_backs,
        "expected_state": command.expected_state,
        "expected_value": command.expected_value,
        "attempt": command.attempt,
        "step": command.step,
        "ranks": command.ranks,
        "old": command.old_value,
        "new": command.new_value,
        "effective": command.effective_value,
        "reason": command.reason,
        "cause": command.cause or None,
        "outcome": command.outcome,
    }
