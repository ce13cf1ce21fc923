"""Rules of alerts of a project or a run: which detectors are on, whether they notify people, and their actions."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from runs.models.projects import Project
from runs.models.runs import Run


class Severity(models.TextChoices):
    """The severity of an alert. Order matters: from the lowest to the highest."""

    INFO = "info", _("info")
    WARNING = "warning", _("warning")
    CRITICAL = "critical", _("critical")

    @property
    def rank(self) -> int:
        """The severity as a number from 0: the greater, the more severe."""
        return list(Severity).index(self)


class RuleAction(models.TextChoices):
    """The command of a rule when an alert begins."""

    PAUSE = "pause", _("pause")
    STOP = "stop", _("stop")
    SAVE_CHECKPOINT = "save_checkpoint", _("save a checkpoint")
    SCALE_KNOB = "scale_knob", _("scale a knob")
    ROLL_BACK = "roll_back", _("roll back")


class AlertRule(models.Model):
    """One detector, for all series that it judges or for those that match `series` (`*` matches any text).

    Without `run` it applies to all runs of the project. If several rules match, a rule of the run precedes one of the
    project, and one with `series` precedes one without. If none matches, the default of `runs.alerts.rules` applies.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="alert_rules", verbose_name=_("project"))
    run = models.ForeignKey(
        Run, models.CASCADE, null=True, blank=True, related_name="alert_rules", verbose_name=_("run")
    )
    detector = models.CharField(_("detector"), max_length=40)
    series = models.CharField(_("series"), max_length=200, blank=True)
    is_on = models.BooleanField(_("on"), default=True)
    severity = models.CharField(_("severity"), max_length=10, choices=Severity, blank=True)
    tells = models.BooleanField(_("notifies the destinations"), default=True)
    cool_down_s = models.PositiveIntegerField(_("cool-down in seconds"), default=60)
    snoozed_until = models.DateTimeField(_("snoozed until"), null=True, blank=True)
    # For the detector "threshold": the alert begins after `points` values in a row beyond `limit`, and clears beyond
    # `clear_at`.
    limit = models.FloatField(_("limit"), null=True, blank=True)
    clear_at = models.FloatField(_("clears at"), null=True, blank=True)
    is_above = models.BooleanField(_("above the limit"), default=True)
    points = models.PositiveIntegerField(_("points"), default=1)
    action = models.CharField(_("action"), max_length=20, choices=RuleAction, blank=True)
    knob = models.CharField(_("knob"), max_length=200, blank=True)
    factor = models.FloatField(_("factor"), null=True, blank=True)
    smallest = models.FloatField(_("smallest value"), null=True, blank=True)
    # The number of the rollback for a fault from which the knob is scaled, and batches are skipped.
    factor_from = models.PositiveSmallIntegerField(_("change the knob from rollback number"), default=1)
    skip_batches = models.PositiveIntegerField(_("skip batches"), default=0)
    skip_from = models.PositiveSmallIntegerField(_("skip batches from rollback number"), default=1)
    most_per_hour = models.PositiveSmallIntegerField(_("most per hour"), default=1)
    # None: no limit.
    most_per_attempt = models.PositiveSmallIntegerField(_("most per attempt"), default=1, null=True, blank=True)
    dry_run = models.BooleanField(_("dry run"), default=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="alert_rules",
        verbose_name=_("changed by"),
    )
    changed_at = models.DateTimeField(_("changed at"), auto_now=True)

    class Meta:
        ordering = ["project", "detector", "series", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "detector", "series"], condition=Q(run=None), name="one_rule_of_a_project"
            ),
            models.UniqueConstraint(
                fields=["run", "detector", "series"], condition=Q(run__isnull=False), name="one_rule_of_a_run"
            ),
        ]
        verbose_name = _("alert rule")
        verbose_name_plural = _("alert rules")

    def __str__(self) -> str:
        return f"{self.detector} {self.series}".strip()
