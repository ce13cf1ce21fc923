"""Launches on hosts without access to the database, the run of each, and the agents that start runs there."""

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
LONGEST_AGENT_NAME = 100
LONGEST_NOTE = 300
# Options of `steersman run`.
OF_ONE_LAUNCH = ("--key", "--name", "--from")


class RemoteLaunch(models.Model):
    """The run of a person's launch. All ranks of the launch, and requeued jobs, have the same `key`.

    `start` is the start that opened `attempt`: all its ranks have the same one. `started` is the `steersman run` that a
    person entered in `folder`, in words, both redacted by the host; [] and "" if the host did not send them.
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
        """Return the line for a shell that starts the same training as another run; "" if the host did not send it."""
        command = shlex.join(self.started)
        return f"cd {_quoted_folder(self.folder)} && {command}" if command and self.folder else command

    def parts_for_from(self) -> tuple[list[str], list[str]] | None:
        """Return the words of `started` around the place of another `--from`, None if there is no `steersman run`.

        Left out are the options of this launch alone: its key, which whoever knows it could continue, its name, and the
        checkpoint at which it began.
        """
        words = list(self.started)
        places = [at for at in range(len(words) - 1) if words[at + 1] == "run" and words[at].endswith("steersman")]
        if not places:
            return None
        before, rest, kept = words[: places[0] + 2], words[places[0] + 2 :], []
        # All its options have a value. As argparse, accept the beginning of a name.
        while rest and rest[0].startswith("--") and rest[0] != "--":
            name, joined, _ = rest[0].partition("=")
            length = 1 if joined else 2
            if not any(option.startswith(name) for option in OF_ONE_LAUNCH):
                kept += rest[:length]
            rest = rest[length:]
        return before, [*kept, *rest]


def _quoted_folder(folder: str) -> str:
    """Return a folder quoted for a shell, which replaces only an unquoted tilde by the home folder."""
    if folder == "~":
        return folder
    return f"~/{shlex.quote(folder[2:])}" if folder.startswith("~/") else shlex.quote(folder)


class Agent(models.Model):
    """A program on a training host that starts the runs that people request, as the user who started it there.

    `session` identifies the process that has the name. `commands` are what it offers, each a
    `steersman.messages.agents.OfferedCommand`. `has_left`: it said that it ends.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="agents")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="agents")
    name = models.CharField(_("name"), max_length=LONGEST_AGENT_NAME)
    session = models.CharField(max_length=64)
    host = models.CharField(_("host"), max_length=255)
    slots = models.PositiveIntegerField(_("slots"), default=1)
    gpus = models.PositiveIntegerField(_("GPUs"), default=0)
    commands = models.JSONField(default=list)
    heartbeat_at = models.DateTimeField(_("last heartbeat"))
    has_left = models.BooleanField(default=False)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["project", "name"], name="one_agent_a_name")]
        verbose_name = _("agent")
        verbose_name_plural = _("agents")

    def __str__(self) -> str:
        return self.name


class AgentRun(models.Model):
    """A run that an agent starts: the command, and the values of its parameters.

    `request` counts how often it was queued. `is_held`: the agent starts it, or it trains. `note` is what it waits for
    there, such as the state of a Slurm job.
    """

    run = models.OneToOneField(Run, models.CASCADE, related_name="agent_run")
    agent = models.ForeignKey(Agent, models.CASCADE, related_name="runs")
    command = models.CharField(max_length=LONGEST_AGENT_NAME)
    values = models.JSONField(default=dict)
    request = models.PositiveIntegerField(default=0)
    is_held = models.BooleanField(default=False)
    note = models.CharField(max_length=LONGEST_NOTE, blank=True)

    def __str__(self) -> str:
        return f"{self.run_id} {self.command}"
