"""Launches on hosts without access to the database, and the run of each."""

from __future__ import annotations

import shlex

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from runs.models.projects import Project
from runs.models.runs import Run

LONGEST_KEY = 200
LONGEST_START = 100
LONGEST_FOLDER = 1000


class RemoteLaunch(models.Model):
    """The run of a person's launch. All ranks of the launch, and requeued jobs, have the same `key`.

    `start` is the start that opened `attempt`: all its ranks have the same one. `started` is the `steersman run` that a
    person entered in `folder`, in words, both redacted by the host; [] and "" from a host that did not tell.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="remote_launches")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="remote_launches")
    key = models.CharField(max_length=LONGEST_KEY)
    run = models.OneToOneField(Run, models.CASCADE, related_name="remote_launch")
    start = models.CharField(max_length=LONGEST_START, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    started = models.JSONField(default=list)
    folder = models.CharField(max_length=LONGEST_FOLDER, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "created_by", "key"], name="one_run_a_remote_launch")]
        verbose_name = _("remote launch")
        verbose_name_plural = _("remote launches")

    def __str__(self) -> str:
        return self.key

    @property
    def command(self) -> str:
        """Return the line for a shell that starts the same training as another run; "" if the host did not tell it."""
        command = shlex.join(self.started)
        return f"cd {_quoted_folder(self.folder)} && {command}" if command and self.folder else command


def _quoted_folder(folder: str) -> str:
    """Return a folder quoted for a shell, which replaces only an unquoted tilde by the home folder."""
    if folder == "~":
        return folder
    return f"~/{shlex.quote(folder[2:])}" if folder.startswith("~/") else shlex.quote(folder)
