"""Branches: runs that began at a checkpoint of another run, and their changes."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from runs.models.runs import LONGEST_NAME, Checkpoint, Run

# The attempt number of the checkpoint at which a branch began.
ORIGIN_ATTEMPT = 0


class Branch(models.Model):
    """The source of a branch, and the checkpoint at which it began.

    The checkpoint was copied into the branch's own folder on `host`. Numbers, names and steps remain when the source is
    deleted. The best value is that of the source up to `step`.
    """

    run = models.OneToOneField(Run, models.CASCADE, related_name="branch", verbose_name=_("run"))
    source = models.ForeignKey(
        Run, models.SET_NULL, null=True, blank=True, related_name="branches", verbose_name=_("branched from")
    )
    source_number = models.PositiveBigIntegerField(_("number of the source"))
    source_name = models.CharField(_("name of the source"), max_length=LONGEST_NAME)
    checkpoint = models.ForeignKey(
        Checkpoint, models.SET_NULL, null=True, blank=True, related_name="branches", verbose_name=_("checkpoint")
    )
    checkpoint_name = models.CharField(_("name of the checkpoint"), max_length=200)
    step = models.BigIntegerField(_("step"))
    epoch = models.BigIntegerField(_("epoch"))
    host = models.CharField(_("host"), max_length=255)
    best_metric = models.FloatField(_("best metric"), null=True, blank=True)
    best_metric_name = models.CharField(_("name of the best metric"), max_length=200, blank=True)
    best_epoch = models.BigIntegerField(_("best epoch"), null=True, blank=True)

    class Meta:
        ordering = ["run_id"]
        verbose_name = _("branch")
        verbose_name_plural = _("branches")

    def as_wire(self) -> dict[str, Any]:
        """Return the fields of `runs.api.branching.schemas.BranchOut`."""
        return {
            "run": self.run_id,
            "source": self.source_number,
            "source_name": self.source_name,
            "checkpoint": self.checkpoint_id,
            "checkpoint_name": self.checkpoint_name,
            "step": self.step,
            "epoch": self.epoch,
            "changes": [change.as_wire() for change in self.changes.all()],
        }

    def __str__(self) -> str:
        return f"#{self.source_number} · {self.step} → #{self.run_id}"


class BranchChange(models.Model):
    """One value that differs between a branch and its source at the checkpoint; `old` is null if it is unknown."""

    class Kind(models.TextChoices):
        PARAMETER = "parameter", _("parameter")
        KNOB = "knob", _("knob")

    branch = models.ForeignKey(Branch, models.CASCADE, related_name="changes", verbose_name=_("branch"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    name = models.CharField(_("name"), max_length=200)
    # The parameter group of a knob, "" for all.
    group = models.CharField(_("group"), max_length=200, blank=True)
    old = models.JSONField(_("old value"), null=True, blank=True)
    new = models.JSONField(_("new value"))

    class Meta:
        ordering = ["branch_id", "kind", "name", "group"]
        constraints = [models.UniqueConstraint(fields=["branch", "kind", "name", "group"], name="one_change_a_value")]
        verbose_name = _("change of a branch")
        verbose_name_plural = _("changes of a branch")

    def __str__(self) -> str:
        return f"{self.name} ({self.group})" if self.group else self.name

    def as_wire(self) -> dict[str, Any]:
        """Return the fields of `runs.api.branching.schemas.ChangeOut`."""
        return {"kind": self.kind, "name": self.name, "group": self.group, "old": self.old, "new": self.new}
