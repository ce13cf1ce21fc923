"""The record of runs. Knows nothing of torch or of the training side.

State changes are verbs in `runs.lifecycle`; events are written by `runs.feed` alone.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _


class Role(models.TextChoices):
    """What a member may do. Order matters: each role includes the ones before it."""

    VIEWER = "viewer", _("viewer")
    OPERATOR = "operator", _("operator")
    OWNER = "owner", _("owner")


class RunState(models.TextChoices):
    CREATED = "created", _("created")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    FINISHED = "finished", _("finished")
    STOPPED = "stopped", _("stopped")
    FAILED = "failed", _("failed")
    LOST = "lost", _("lost")


class CommandState(models.TextChoices):
    SENT = "sent", _("sent")
    DELIVERED = "delivered", _("delivered")
    APPLIED = "applied", _("applied")
    REFUSED = "refused", _("refused")
    EXPIRED = "expired", _("expired")


class Axis(models.TextChoices):
    """What a series is drawn over: training metrics by step, samples of the machine by time."""

    STEP = "step", _("step")
    TIME = "time", _("time")


class Project(models.Model):
    """A team's folder of runs."""

    name = models.CharField(_("name"), max_length=100)
    slug = models.SlugField(_("slug"), unique=True)
    description = models.TextField(_("description"), blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, through="Membership", related_name="projects")

    class Meta:
        ordering = ["name"]
        verbose_name = _("project")
        verbose_name_plural = _("projects")

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    project = models.ForeignKey(Project, models.CASCADE, related_name="memberships", verbose_name=_("project"))
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships", verbose_name=_("user")
    )
    role = models.CharField(_("role"), max_length=10, choices=Role, default=Role.VIEWER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "user"], name="one_membership_a_project")]
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")

    def __str__(self) -> str:
        return f"{self.user} · {self.project} · {self.get_role_display()}"


class Recipe(models.Model):
    """What a recipe class declared when it was last published, so that the web need not import torch."""

    spec = models.CharField(_("spec"), max_length=200, unique=True, help_text=_("built-in name or dotted path"))
    title = models.CharField(_("title"), max_length=100)
    description = models.TextField(_("description"), blank=True)
    parameters = models.JSONField(_("parameters"), default=list)
    knobs = models.JSONField(_("knobs"), default=list)
    source_sha256 = models.CharField(_("source hash"), max_length=64)
    published_at = models.DateTimeField(_("published at"), auto_now=True)

    class Meta:
        ordering = ["spec"]
        verbose_name = _("recipe")
        verbose_name_plural = _("recipes")

    def __str__(self) -> str:
        return self.spec


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> RunQuerySet:
        """Return the runs of projects that `user` belongs to."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(project__memberships__user_id=user.pk)


class Run(models.Model):
    """One training with its configuration, from created to an end.

    `attempt` is the fencing token: the owner's writes are conditional on it.
    `is_paused` is what the worker said last: a lost run heals to it.
    `beat` counts up while a supervisor lives; `last_seq` numbers events without gaps;
    events with seq <= `replay_from` may have been folded into chunks.
    """

    project = models.ForeignKey(Project, models.PROTECT, related_name="runs", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=120)
    recipe = models.ForeignKey(
        Recipe,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="runs",
        verbose_name=_("recipe"),
        help_text=_("empty for a run of a script of your own"),
    )
    parameters = models.JSONField(_("parameters"), default=dict, blank=True)
    device = models.CharField(_("device"), max_length=20, default="auto", help_text=_("auto, cpu, cuda or cuda:1"))
    seed = models.PositiveIntegerField(_("seed"), default=0)
    deterministic = models.BooleanField(_("deterministic"), default=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="runs",
        verbose_name=_("created by"),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)

    state = models.CharField(_("state"), max_length=10, choices=RunState, default=RunState.CREATED)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    beat = models.PositiveBigIntegerField(_("beat"), default=0)
    beat_at = models.DateTimeField(_("last beat"), null=True, blank=True)
    last_seq = models.PositiveBigIntegerField(_("last event"), default=0)
    replay_from = models.PositiveBigIntegerField(_("replay from"), default=0)

    step = models.PositiveBigIntegerField(_("step"), default=0)
    epoch = models.PositiveIntegerField(_("epoch"), default=0)
    total_steps = models.PositiveBigIntegerField(_("total steps"), null=True, blank=True)
    total_epochs = models.PositiveIntegerField(_("total epochs"), null=True, blank=True)
    steps_per_epoch = models.PositiveIntegerField(_("steps an epoch"), null=True, blank=True)
    last_point_at = models.DateTimeField(_("last point at"), null=True, blank=True)
    best_metric = models.FloatField(_("best metric"), null=True, blank=True)
    best_metric_name = models.CharField(_("name of the best metric"), max_length=60, blank=True)
    best_epoch = models.PositiveIntegerField(_("best epoch"), null=True, blank=True)

    knobs = models.JSONField(_("knobs"), default=list, blank=True)
    extra_epochs = models.PositiveIntegerField(_("extra epochs"), default=0)
    start_paused = models.BooleanField(_("start paused"), default=False)
    is_paused = models.BooleanField(_("paused"), default=False)
    ranks = models.PositiveIntegerField(_("ranks"), default=1)
    restarts = models.PositiveIntegerField(_("restarts allowed"), default=0)
    restarts_used = models.PositiveIntegerField(_("restarts used"), default=0)
    usual_step_s = models.FloatField(_("usual step (s)"), null=True, blank=True)
    stalled_since = models.DateTimeField(_("stalled since"), null=True, blank=True)

    cloned_from = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="clones", verbose_name=_("cloned from")
    )
    queued_at = models.DateTimeField(_("queued at"), null=True, blank=True)
    queued_host = models.CharField(_("host to start on"), max_length=255, blank=True)
    archived_at = models.DateTimeField(_("archived at"), null=True, blank=True)
    reviewed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="reviewed_runs",
        verbose_name=_("reviewed by"),
    )
    reviewed_at = models.DateTimeField(_("reviewed at"), null=True, blank=True)
    review_note = models.TextField(_("review note"), blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state"], name="run_state")]
        verbose_name = _("run")
        verbose_name_plural = _("runs")

    def __str__(self) -> str:
        return f"#{self.pk} {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("run", args=[self.pk])

    @property
    def is_live(self) -> bool:
        return self.state in (RunState.RUNNING, RunState.PAUSED)


class Attempt(models.Model):
    """One holding of a run by a supervisor and its workers."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField(_("number"))
    host = models.CharField(_("host"), max_length=255)
    boot_id = models.CharField(max_length=64)
    supervisor_pid = models.PositiveIntegerField(_("supervisor pid"))
    adoptions = models.PositiveIntegerField(_("adoptions"), default=0)
    ranks = models.PositiveIntegerField(_("ranks"), default=1)
    launch = models.CharField(_("launch"), max_length=100, blank=True)
    last_step = models.PositiveBigIntegerField(_("last step"), default=0)
    command_line = models.JSONField(_("command line"), default=list)
    resumed_from = models.ForeignKey(
        "Checkpoint", models.SET_NULL, null=True, blank=True, related_name="resumed_attempts"
    )
    # Outlives the checkpoint, which the rule of what to keep may remove.
    resumed_step = models.PositiveBigIntegerField(_("went on from step"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), auto_now_add=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    environment = models.JSONField(_("environment"), default=dict)
    outcome = models.CharField(_("outcome"), max_length=10, blank=True)
    exit_code = models.IntegerField(_("exit code"), null=True, blank=True)
    signal = models.CharField(_("signal"), max_length=20, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    console_offset = models.PositiveBigIntegerField(default=0)
    # Of the ranks beside the first.
    console_offsets = models.JSONField(default=dict)
    unreadable_records = models.PositiveIntegerField(_("unreadable records"), default=0)
    dropped_records = models.PositiveIntegerField(_("dropped records"), default=0)

    class Meta:
        ordering = ["run", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_attempt_a_number")]
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self) -> str:
        return f"{self.run_id}/{self.number}"


class JournalOffset(models.Model):
    """How far a journal segment was consumed, committed with what it brought."""

    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="offsets")
    rank = models.PositiveIntegerField(default=0)
    segment = models.PositiveIntegerField(default=0)
    offset = models.PositiveBigIntegerField(default=0)
    next_number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["attempt", "rank", "segment"], name="one_offset_a_segment")]


class EpochMetric(models.Model):
    """One epoch of one attempt. A column is null where not reported or not finite (then named in `nonfinite`)."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="epochs")
    attempt = models.PositiveIntegerField(_("attempt"))
    epoch = models.PositiveIntegerField(_("epoch"))
    step = models.PositiveBigIntegerField(_("step"))
    train_loss = models.FloatField(_("training loss"), null=True)
    train_accuracy = models.FloatField(_("training accuracy"), null=True)
    validation_loss = models.FloatField(_("validation loss"), null=True)
    validation_accuracy = models.FloatField(_("validation accuracy"), null=True)
    learning_rate = models.FloatField(_("learning rate"), null=True)
    samples_per_second = models.FloatField(_("samples per second"), null=True)
    duration_s = models.FloatField(_("duration (s)"), null=True)
    extra = models.JSONField(_("other values"), default=dict)
    nonfinite = models.JSONField(_("not finite"), default=dict)
    best = models.BooleanField(_("best"), default=False)
    at = models.DateTimeField(_("at"))

    COLUMNS = (
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "samples_per_second",
    )

    class Meta:
        ordering = ["run", "epoch", "attempt"]
        constraints = [models.UniqueConstraint(fields=["run", "attempt", "epoch"], name="one_row_an_epoch")]
        verbose_name = _("epoch metric")
        verbose_name_plural = _("epoch metrics")

    def __str__(self) -> str:
        return f"{self.run_id} · {self.epoch}"


class Series(models.Model):
    """A named stream of (step, time, value) of a run, and its latest point."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="series")
    name = models.CharField(max_length=200)
    axis = models.CharField(max_length=4, choices=Axis, default=Axis.STEP)
    last_step = models.BigIntegerField(default=0)
    last_time = models.FloatField(default=0)
    last_value = models.FloatField(null=True)
    last_nonfinite = models.CharField(max_length=4, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="one_series_a_name")]
        verbose_name_plural = "series"

    def __str__(self) -> str:
        return f"{self.run_id}/{self.name}"


class Chunk(models.Model):
    """Some thousands of points of one series in one attempt, packed; see `runs.series`."""

    series = models.ForeignKey(Series, models.CASCADE, related_name="chunks")
    attempt = models.PositiveIntegerField()
    index = models.PositiveIntegerField()
    count = models.PositiveIntegerField()
    first_step = models.BigIntegerField()
    last_step = models.BigIntegerField()
    first_time = models.FloatField()
    last_time = models.FloatField()
    points = models.BinaryField()
    buckets = models.BinaryField()

    class Meta:
        ordering = ["series", "attempt", "index"]
        constraints = [models.UniqueConstraint(fields=["series", "attempt", "index"], name="one_chunk_an_index")]


class StoredEvent(models.Model):
    """An event as it was announced: `frame` is the text that viewers receive."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=20)
    at = models.DateTimeField()
    frame = models.TextField()

    class Meta:
        ordering = ["run", "seq"]
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="one_event_a_seq")]
        indexes = [models.Index(fields=["run", "kind", "seq"], name="event_by_kind")]


class Command(models.Model):
    """What a person or a rule asked of a run: a durable row first."""

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
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=CommandState, default=CommandState.SENT)
    sent_at = models.DateTimeField(_("sent at"))
    delivered_at = models.DateTimeField(_("delivered at"), null=True, blank=True)
    applied_at = models.DateTimeField(_("applied at"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    at_step = models.PositiveBigIntegerField(_("at step"), null=True, blank=True)
    at_epoch = models.PositiveIntegerField(_("at epoch"), null=True, blank=True)
    expected_state = models.CharField(_("expected state"), max_length=10, choices=RunState, blank=True)
    expected_value = models.JSONField(_("expected value"), null=True, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), null=True, blank=True)
    ranks = models.PositiveIntegerField(_("ranks"), null=True, blank=True)
    step = models.PositiveBigIntegerField(_("step"), null=True, blank=True)
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


class Checkpoint(models.Model):
    """Everything needed to go on from a step.

    `path` is relative to the folder of the run. `reason` tells why it was saved, and so how long it is kept.
    """

    class Reason(models.TextChoices):
        LAST = "last", _("last")
        BEST = "best", _("best")
        HOURLY = "hourly", _("hourly")
        NAMED = "named", _("named")
        STOP = "stop", _("stop")

    run = models.ForeignKey(Run, models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField(_("attempt"))
    step = models.PositiveBigIntegerField(_("step"))
    epoch = models.PositiveIntegerField(_("epoch"))
    name = models.CharField(_("name"), max_length=100)
    path = models.CharField(max_length=300)
    size_bytes = models.PositiveBigIntegerField(_("size"))
    sha256 = models.CharField(max_length=64)
    reason = models.CharField(_("saved as"), max_length=10, choices=Reason, default=Reason.LAST)
    metrics = models.JSONField(_("metrics"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        ordering = ["run", "-id"]
        constraints = [models.UniqueConstraint(fields=["run", "path"], name="one_checkpoint_a_path")]

    def __str__(self) -> str:
        return f"{self.run_id} · {self.name}"


class TokenScope(models.TextChoices):
    """What the bearer of a token may do. A share token is a link without login: it only views one run."""

    VIEW = "view", _("view")
    COMMAND = "command", _("command")
    SHARE = "share", _("share")


class AccessToken(models.Model):
    """A revocable key for scripts, or a share link: 256 random bits of which only the SHA-256 is kept.

    It never allows more than its creator may do now. Without `run` it is for the whole project.
    """

    name = models.CharField(_("name"), max_length=100)
    prefix = models.CharField(_("prefix"), max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    scope = models.CharField(_("scope"), max_length=10, choices=TokenScope, default=TokenScope.VIEW)
    project = models.ForeignKey(Project, models.CASCADE, related_name="tokens", verbose_name=_("project"))
    run = models.ForeignKey(Run, models.CASCADE, null=True, blank=True, related_name="tokens", verbose_name=_("run"))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="tokens", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = _("token")
        verbose_name_plural = _("tokens")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class Invite(models.Model):
    """A link by which somebody becomes a member of a project, once: only the SHA-256 of its key is kept."""

    digest = models.CharField(max_length=64, unique=True)
    project = models.ForeignKey(Project, models.CASCADE, related_name="invites", verbose_name=_("project"))
    role = models.CharField(_("role"), max_length=10, choices=Role, default=Role.VIEWER)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="invites", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    expires_at = models.DateTimeField(_("expires at"))
    used_at = models.DateTimeField(_("used at"), null=True, blank=True)
    used_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="used_invites",
        verbose_name=_("used by"),
    )
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = _("invite")
        verbose_name_plural = _("invites")

    def __str__(self) -> str:
        return f"{self.project} · {self.get_role_display()}"


class Host(models.Model):
    """A machine on which `manage.py watch` starts queued runs, and the present use of its devices."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    beat = models.PositiveBigIntegerField(default=0)
    beat_at = models.DateTimeField(_("last beat"))
    devices = models.JSONField(_("devices"), default=list)

    class Meta:
        ordering = ["name"]
        verbose_name = _("host")
        verbose_name_plural = _("hosts")

    def __str__(self) -> str:
        return self.name


class Ticket(models.Model):
    """A single-use key to one run's socket: 256 random bits of which only the SHA-256 is kept.

    It stands for a user's session, or for a token, and opens nothing once that is gone.
    """

    digest = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="tickets")
    session_key = models.CharField(max_length=40, blank=True)
    token = models.ForeignKey(AccessToken, models.CASCADE, null=True, blank=True, related_name="tickets")
    run = models.ForeignKey(Run, models.CASCADE, related_name="tickets")
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)


def as_wire(command: Command) -> dict[str, Any]:
    """Return the fields of `runs.events.CommandChanged` for this row."""
    from runs.events import iso

    return {
        "id": str(command.pk),
        "command": command.kind,
        "state": str(command.state),
        "author": command.author_name,
        "arguments": command.arguments,
        "sent_at": iso(command.sent_at),
        "delivered_at": iso(command.delivered_at) if command.delivered_at else None,
        "applied_at": iso(command.applied_at) if command.applied_at else None,
        "expires_at": iso(command.expires_at) if command.expires_at else None,
        "at_step": command.at_step,
        "at_epoch": command.at_epoch,
        "expected_state": command.expected_state,
        "expected_value": command.expected_value,
        "attempt": command.attempt,
        "step": command.step,
        "ranks": command.ranks,
        "old": command.old_value,
        "new": command.new_value,
        "effective": command.effective_value,
        "reason": command.reason,
        "outcome": command.outcome,
    }
