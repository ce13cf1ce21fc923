"""Runs: their recipes, attempts and checkpoints, and the hosts that start them."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from runs.models.projects import Project
from runs.protocol.commands import EndProcess
from runs.protocol.states import ENDED, LIVE, group_of
from steersman.commands import UNHANDLED
from steersman.slots import MOST_SLOTS
from steersman.spec import ValueSpec, specs_from_wire

# Commands that not every training supports: see `Run.offers`.
OPTIONAL = (*UNHANDLED, EndProcess.kind)


class RunState(models.TextChoices):
    CREATED = "created", _("created")
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    FINISHED = "finished", _("finished")
    STOPPED = "stopped", _("stopped")
    FAILED = "failed", _("failed")
    LOST = "lost", _("lost")


class AfterCondition(models.TextChoices):
    """How another run must have ended before this one starts, like Slurm's afterok and afterany."""

    FINISHED = "finished", _("finished")
    ENDED = "ended", _("ended in any way")


class Recipe(models.Model):
    """The declarations of a recipe class when it was last published, so that the web need not import torch."""

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

    @property
    def parameter_specs(self) -> dict[str, ValueSpec]:
        """Return the specs of the parameters, by name."""
        return specs_from_wire(self.parameters)


# The name of a run of a script until its first attempt has reported the script.
UNNAMED = "script"
LONGEST_NAME = 120
# The largest primary key that a database stores: a larger number is not an id.
LARGEST_ID = 2**63 - 1


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> RunQuerySet:
        """Return the runs of projects that `user` belongs to."""
        if not user.is_authenticated:
            return self.none()
        return self.filter(project__memberships__user_id=user.pk)

    def startable_on(self, host: str) -> RunQuerySet:
        """Return the queued runs that `host` may start as soon as it has their devices.

        A run that was opened by a token is started by its own host alone.
        """
        waiting = self.condition_met().filter(state=RunState.QUEUED, queued_host__in=("", host))
        return waiting.filter(remote_launch=None)

    def condition_met(self) -> RunQuerySet:
        """Return the runs that are not waiting for another run. A retry after a failure waits for none."""
        awaited = Run.objects.filter(pk=models.OuterRef("after_run")).order_by()
        ended = models.Q(after_condition=AfterCondition.ENDED)
        met = (
            models.Q(after_run=None)
            | models.Q(restarts_used__gt=0)
            | models.Q(models.Exists(awaited.filter(state=RunState.FINISHED)))
            | (ended & models.Q(models.Exists(awaited.filter(state__in=ENDED))))
            | (ended & ~models.Q(models.Exists(awaited)))
        )
        return self.filter(met)

    def in_line(self) -> RunQuerySet:
        """Return the runs in the order in which they start: by priority, then by their place in line."""
        return self.order_by("-priority", Coalesce("line_at", "queued_at"), "pk")


class Run(models.Model):
    """One training with its configuration, from its creation to its end.

    `attempt` is the fencing token: the owner's writes are conditional on it. `is_paused` is what the worker last
    reported: a lost run returns to that state. `heartbeat` counts up while a supervisor is alive. `last_seq` numbers
    events without gaps; events with seq <= `replay_from` may have been compacted into chunks.
    """

    project = models.ForeignKey(Project, models.PROTECT, related_name="runs", verbose_name=_("project"))
    name = models.CharField(_("name"), max_length=LONGEST_NAME)
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
    # Time in attempts without pauses, and without the current one while it trains: see `runs.recording.status`.
    trained_s = models.FloatField(_("trained (s)"), default=0.0)
    training_since = models.DateTimeField(_("training since"), null=True, blank=True)
    # GPUs times the time that attempts held them, pauses included, and what the current one holds since when.
    gpu_s = models.FloatField(_("GPU time (s)"), default=0.0)
    gpus_held = models.PositiveIntegerField(_("GPUs held"), default=0)
    gpus_held_since = models.DateTimeField(_("GPUs held since"), null=True, blank=True)

    state = models.CharField(_("state"), max_length=10, choices=RunState, default=RunState.CREATED)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    # The content of `reason` as data, as `runs.protocol.causes` stores it; outdated if it does not match `reason`.
    cause = models.JSONField(default=dict, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    heartbeat = models.PositiveBigIntegerField(_("heartbeat"), default=0)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    last_seq = models.PositiveBigIntegerField(_("last event"), default=0)
    replay_from = models.PositiveBigIntegerField(_("replay from"), default=0)
    # Points before this time are stored coarsely; how often chunks were replaced for that: see `runs.pruning`.
    coarse_until = models.DateTimeField(null=True, editable=False)
    thinnings = models.PositiveIntegerField(default=0, editable=False)

    step = models.BigIntegerField(_("step"), default=0)
    epoch = models.BigIntegerField(_("epoch"), default=0)
    total_steps = models.PositiveBigIntegerField(_("total steps"), null=True, blank=True)
    total_epochs = models.PositiveBigIntegerField(_("total epochs"), null=True, blank=True)
    steps_per_epoch = models.PositiveBigIntegerField(_("steps an epoch"), null=True, blank=True)
    last_point_at = models.DateTimeField(_("last point at"), null=True, blank=True)
    best_metric = models.FloatField(_("best metric"), null=True, blank=True)
    best_metric_name = models.CharField(_("name of the best metric"), max_length=200, blank=True)
    best_epoch = models.BigIntegerField(_("best epoch"), null=True, blank=True)

    knobs = models.JSONField(_("knobs"), default=list, blank=True)
    # The commands for which a script has registered handlers.
    handled_commands = models.JSONField(default=list, editable=False)
    extra_epochs = models.PositiveBigIntegerField(_("extra epochs"), default=0)
    start_paused = models.BooleanField(_("start paused"), default=False)
    is_paused = models.BooleanField(_("paused"), default=False)
    ranks = models.PositiveIntegerField(_("ranks"), default=1)
    restarts = models.PositiveIntegerField(_("restarts allowed"), default=0)
    restarts_used = models.PositiveIntegerField(_("restarts used"), default=0)
    usual_step_s = models.FloatField(_("usual step (s)"), null=True, blank=True)
    # Since when a command waits for a training that does not read `run.stopping`.
    not_looking_since = models.DateTimeField(null=True, editable=False)
    stalled_since = models.DateTimeField(_("stalled since"), null=True, blank=True)
    # The supervisor's measurements of itself: a `runs.protocol.reports.SupervisorReport`.
    supervisor_report = models.JSONField(null=True, blank=True, editable=False)

    cloned_from = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="clones", verbose_name=_("cloned from")
    )
    # Of a run that repeats another: the id of the request for it.
    again_id = models.UUIDField(null=True, blank=True, editable=False, unique=True)
    queued_at = models.DateTimeField(_("queued at"), null=True, blank=True)
    queued_host = models.CharField(_("host to start on"), max_length=255, blank=True)
    # Higher ones start first.
    priority = models.SmallIntegerField(_("priority"), default=0)
    # Its place among runs of the same priority: the time of queueing, unless somebody moved it.
    line_at = models.DateTimeField(_("place in line"), null=True, blank=True)
    # Not a foreign key, because the number must remain when that run is deleted.
    after_run = models.PositiveBigIntegerField(_("starts after run"), null=True, blank=True)
    after_condition = models.CharField(
        _("starts when that has"), max_length=10, choices=AfterCondition, default=AfterCondition.FINISHED
    )
    gpu_memory_mib = models.PositiveIntegerField(
        _("GPU memory (MiB)"),
        null=True,
        blank=True,
        help_text=_("Memory that the run needs on each GPU. Leave empty if unknown."),
    )
    # Set by the watch that started it; empty if a person started it.
    given_devices = models.JSONField(_("devices given"), default=list, blank=True)
    description = models.TextField(_("description"), blank=True)
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
        return self.state in LIVE

    @property
    def group(self) -> str:
        """The group of the run's state: "waiting", "live", "lost" or "ended"."""
        return group_of(self.state)

    @property
    def offers(self) -> list[str]:
        """Return the commands that this training supports, of those that not every training does.

        A recipe supports all that need a handler, a script those for which it has registered one. Ending the process is
        offered if the training does not read its pending commands.
        """
        handled = [kind for kind in UNHANDLED if self.recipe_id or kind in self.handled_commands]
        return handled if self.not_looking_since is None else [*handled, EndProcess.kind]

    def withholds(self, kind: str) -> bool:
        """Return whether this training does not support a command."""
        return kind in OPTIONAL and kind not in self.offers

    def patched_attempt(self, number: int | None = None) -> Attempt | None:
        """Return the attempt of this number whose source differed from its commit, by default the newest such; else
        None.
        """
        attempts = self.attempts.exclude(patch="")
        if number is not None:
            attempts = attempts.filter(number=number if number <= LARGEST_ID else 0)
        return attempts.order_by("-number").first()

    @property
    def knob_specs(self) -> dict[str, ValueSpec]:
        """Return the specs of the knobs, by name: none until the training has declared them."""
        return specs_from_wire(self.knobs)


class Attempt(models.Model):
    """One attempt of a supervisor and its workers to train a run."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField(_("number"))
    host = models.CharField(_("host"), max_length=255)
    boot_id = models.CharField(max_length=64)
    supervisor_pid = models.PositiveIntegerField(_("supervisor pid"))
    adoptions = models.PositiveIntegerField(_("adoptions"), default=0)
    ranks = models.PositiveIntegerField(_("ranks"), default=1)
    launch = models.CharField(_("launch"), max_length=100, blank=True)
    last_step = models.BigIntegerField(_("last step"), default=0)
    command_line = models.JSONField(_("command line"), default=list)
    resumed_from = models.ForeignKey(
        "Checkpoint", models.SET_NULL, null=True, blank=True, related_name="resumed_attempts"
    )
    # Remains when a retention rule removes the checkpoint.
    resumed_step = models.BigIntegerField(_("resumed from step"), null=True, blank=True)
    started_at = models.DateTimeField(_("started at"), auto_now_add=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    # The past pauses, and the start of the current one: neither counts as training time.
    paused_s = models.FloatField(default=0.0)
    paused_since = models.DateTimeField(null=True)
    environment = models.JSONField(_("environment"), default=dict)
    # The difference between its source and the commit, as `git diff` prints it.
    patch = models.TextField(blank=True, editable=False)
    outcome = models.CharField(_("outcome"), max_length=10, blank=True)
    exit_code = models.IntegerField(_("exit code"), null=True, blank=True)
    signal = models.CharField(_("signal"), max_length=20, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    traceback = models.TextField(_("traceback"), blank=True)
    # The session that reports, and the number of its reports: see `runs.recording.record_side.continuing`.
    session = models.PositiveBigIntegerField(default=0, editable=False)
    reports = models.PositiveBigIntegerField(default=0, editable=False)
    console_offset = models.PositiveBigIntegerField(default=0)
    # For the ranks other than the first.
    console_offsets = models.JSONField(default=dict)
    unreadable_records = models.PositiveBigIntegerField(_("unreadable records"), default=0)
    dropped_records = models.PositiveBigIntegerField(_("dropped records"), default=0)
    set_aside_records = models.PositiveBigIntegerField(_("records set aside"), default=0)
    alerts_left_out = models.PositiveBigIntegerField(_("alerts left out"), default=0)
    # The goals declared by `watch()`: "min" or "max", by series.
    goals = models.JSONField(default=dict)
    # The first lap of the points since its last rollback; see `runs.series.laps`.
    first_lap = models.PositiveIntegerField(default=0, editable=False)
    # For each rollback, the first lap after it and the step that the training went back to.
    roll_backs = models.JSONField(default=list, editable=False)

    class Meta:
        ordering = ["run", "number"]
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_attempt_a_number")]
        indexes = [
            # The attempts that hold runs now, which are few of all.
            models.Index(fields=["run"], condition=models.Q(ended_at=None), name="open_attempts"),
            # A search for a part of a host reads all of it, instead of all attempts, which are long.
            models.Index(fields=["host", "run"], name="attempt_by_host"),
        ]
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")

    def __str__(self) -> str:
        return f"{self.run_id}/{self.number}"


class Checkpoint(models.Model):
    """Everything needed to resume from a step.

    `path` is relative to the folder of the run. `reason` is why it was saved, which determines how long it is kept.
    """

    class Reason(models.TextChoices):
        LAST = "last", _("last")
        BEST = "best", _("best")
        HOURLY = "hourly", _("hourly")
        NAMED = "named", _("named")
        STOP = "stop", _("stop")

    run = models.ForeignKey(Run, models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField(_("attempt"))
    step = models.BigIntegerField(_("step"))
    epoch = models.BigIntegerField(_("epoch"))
    name = models.CharField(_("name"), max_length=200)
    # `attempts/N/` and the path that the training gave.
    path = models.CharField(max_length=530)
    size_bytes = models.PositiveBigIntegerField(_("size"))
    sha256 = models.CharField(max_length=64)
    reason = models.CharField(_("saved as"), max_length=10, choices=Reason, default=Reason.LAST)
    metrics = models.JSONField(_("metrics"), default=dict, blank=True)
    # Marked by a person: no retention rule removes it after the run has ended.
    keep = models.BooleanField(_("keep"), default=False)
    # The detectors raised no alert for a while after it: a rule may roll back to it.
    good = models.BooleanField(_("good"), default=False)
    # Whether it is a folder with our manifest. Only the script can read any other checkpoint, and only it removes it.
    has_manifest = models.BooleanField(default=True, editable=False)
    # Whether the run was rolled back to a step before it: no attempt resumes from it automatically.
    abandoned = models.BooleanField(_("abandoned"), default=False, editable=False)
    # Whether its host has the files, as far as it has reported.
    on_host = models.BooleanField(default=True, editable=False)
    # When its host sent a copy to the portal: the row stays when the host removes its own files.
    pushed_at = models.DateTimeField(_("pushed at"), null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"))

    class Meta:
        ordering = ["run", "-id"]
        constraints = [models.UniqueConstraint(fields=["run", "path"], name="one_checkpoint_a_path")]

    def __str__(self) -> str:
        return f"{self.run_id} · {self.name}"


class Host(models.Model):
    """A machine on which `manage.py watch` starts queued runs, and the current use of its devices."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    heartbeat = models.PositiveBigIntegerField(default=0)
    heartbeat_at = models.DateTimeField(_("last heartbeat"))
    devices = models.JSONField(_("devices"), default=list)
    slots_per_device = models.PositiveSmallIntegerField(
        _("slots per GPU"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(MOST_SLOTS)],
        help_text=_("Maximum number of runs on a GPU at the same time. If left empty: STEERSMAN_SLOTS of the host."),
    )
    cpu_slots = models.PositiveSmallIntegerField(
        _("slots of the CPU"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(MOST_SLOTS)],
        help_text=_(
            "Maximum number of runs on the CPU at the same time. If left empty: STEERSMAN_CPU_SLOTS of the host."
        ),
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("host")
        verbose_name_plural = _("hosts")

    def __str__(self) -> str:
        return self.name
