"""Launches on hosts without access to the database, and the run of each."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from runs.models.projects import Project
from runs.models.runs import Run

LONGEST_KEY = 200
LONGEST_START = 100


class RemoteLaunch(models.Model):
    """The run of a person's launch. All ranks of the launch, and requeued jobs, have the same `key`.

    `start` is the start that opened `attempt`: all its ranks have the same one.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="remote_launches")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="remote_launches")
    key = models.CharField(max_length=LONGEST_KEY)
    run = models.OneToOneField(Run, models.CASCADE, related_name="remote_launch")
    start = models.CharField(max_length=LONGEST_START, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "created_by", "key"], name="one_run_a_remote_launch")]
        verbose_name = _("remote launch")
        verbose_name_plural = _("remote launches")

    def __str__(self) -> str:
        return self.key
