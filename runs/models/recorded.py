"""The records of trainings: epochs, series, events, and the read positions in journals."""

from __future__ import annotations

from typing import cast

from django.db import models
from django.utils.translation import gettext_lazy as _

from runs.models.runs import Attempt, Run
from runs.protocol.events import LONGEST_KIND


class Axis(models.TextChoices):
    """The axis of a series: step for training metrics, time for samples of the machine."""

    STEP = "step", _("step")
    TIME = "time", _("time")


class JournalOffset(models.Model):
    """The position in a journal segment, committed together with the records before it."""

    attempt = models.ForeignKey(Attempt, models.CASCADE, related_name="offsets")
    rank = models.PositiveIntegerField(default=0)
    segment = models.PositiveIntegerField(default=0)
    offset = models.PositiveBigIntegerField(default=0)
    next_number = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["attempt", "rank", "segment"], name="one_offset_a_segment")]


class EpochQuerySet(models.QuerySet["EpochMetric"]):
    def counted(self) -> EpochQuerySet:
        """Return the epochs that still count.

        Excluded are epochs that a later attempt repeated, that were logged again, or that a rollback abandoned.
        """
        later = EpochMetric.objects.filter(
            run=models.OuterRef("run"), attempt__gt=models.OuterRef("attempt"), epoch__lte=models.OuterRef("epoch")
        )
        again = EpochMetric.objects.filter(
            run=models.OuterRef("run"),
            attempt=models.OuterRef("attempt"),
            epoch=models.OuterRef("epoch"),
            order__gt=models.OuterRef("order"),
        )
        return self.filter(~models.Exists(later), ~models.Exists(again), abandoned=False)

    def newest(self, number: int) -> list[EpochMetric]:
        """Return the last `number` epochs, oldest first."""
        return cast("list[EpochMetric]", list(self.order_by("-epoch", "-attempt", "-order")[:number]))[::-1]


class EpochMetric(models.Model):
    """One epoch of one attempt. A column is null if the value was not reported or not finite (then named in
    `nonfinite`).

    An attempt may log an epoch several times, as a loop over folds does: `order` numbers these from 0, and the last
    counts.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="epochs")
    attempt = models.PositiveIntegerField(_("attempt"))
    epoch = models.BigIntegerField(_("epoch"))
    order = models.PositiveIntegerField(_("order"), default=0)
    step = models.BigIntegerField(_("step"))
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
    # Whether it was the best epoch when it was logged: the run may be rolled back to it.
    was_best = models.BooleanField(default=False, editable=False)
    # Whether the run was rolled back to a step before it.
    abandoned = models.BooleanField(_("abandoned"), default=False, editable=False)
    at = models.DateTimeField(_("at"))

    objects = EpochQuerySet.as_manager()

    COLUMNS = (
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "samples_per_second",
    )

    class Meta:
        ordering = ["run", "epoch", "attempt", "order"]
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "epoch", "order"], name="one_row_an_epoch_and_order")
        ]
        verbose_name = _("epoch metric")
        verbose_name_plural = _("epoch metrics")

    @property
    def reported(self) -> dict[str, float | None]:
        """Return all values of the epoch by name; a value that is not finite is None."""
        columns: dict[str, float | None] = {name: getattr(self, name) for name in self.COLUMNS}
        others: dict[str, float | None] = self.extra
        return {name: value for name, value in columns.items() if value is not None or name in self.nonfinite} | others

    def __str__(self) -> str:
        return f"{self.run_id} · {self.epoch}"


class Series(models.Model):
    """A named stream of (step, time, value) of a run, its latest point, and the least and greatest finite value of all
    its points, also of those that a rollback or a later attempt has replaced.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="series")
    name = models.CharField(max_length=200)
    axis = models.CharField(max_length=4, choices=Axis, default=Axis.STEP)
    last_step = models.BigIntegerField(default=0)
    last_time = models.FloatField(default=0)
    last_value = models.FloatField(null=True)
    last_nonfinite = models.CharField(max_length=4, blank=True)
    least_value = models.FloatField(null=True)
    greatest_value = models.FloatField(null=True)
    # Points of attempts up to this one are stored coarsely: see `runs.pruning`.
    coarse_attempt = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="one_series_a_name")]
        # For searches for runs with a series of this name.
        indexes = [models.Index(fields=["name", "run"], name="series_by_name")]
        verbose_name_plural = "series"

    def __str__(self) -> str:
        return f"{self.run_id}/{self.name}"


class ChunkPlaces(models.Model):
    """Steps and times of a chunk and of its summaries, packed: one row for all series that were logged together.

    `digest` is the BLAKE2b of all columns, so that equal ones can be found.
    """

    run = models.ForeignKey(Run, models.CASCADE, related_name="chunk_places")
    digest = models.BinaryField(max_length=16)
    # Small columns first, because SQLite reads a row only up to the requested column.
    coarse = models.BinaryField(default=b"")
    fine = models.BinaryField(default=b"")
    buckets = models.BinaryField()
    points = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "digest"], name="one_row_for_equal_places")]
        verbose_name_plural = "chunk places"


class Chunk(models.Model):
    """Some thousands of points of one series in one attempt, packed; see `runs.series.chunk_rows`.

    `lap` is the number of times that the step of the series went back in this attempt, as in a loop that restarts its
    count each epoch. A chunk with `closes_group` has the summaries of the 64 chunks that end with it, as `fine` and
    `coarse`.
    """

    series = models.ForeignKey(Series, models.CASCADE, related_name="chunks")
    attempt = models.PositiveIntegerField()
    lap = models.PositiveIntegerField(default=0)
    index = models.PositiveIntegerField()
    count = models.PositiveIntegerField()
    first_step = models.BigIntegerField()
    last_step = models.BigIntegerField()
    first_time = models.FloatField()
    last_time = models.FloatField()
    # Shared by several chunks, and deleted with the run or with the last of these chunks.
    places = models.ForeignKey(ChunkPlaces, models.DO_NOTHING, related_name="chunks")
    closes_group = models.BooleanField(default=False)
    # Small columns first, as above.
    coarse = models.BinaryField(default=b"")
    fine = models.BinaryField(default=b"")
    buckets = models.BinaryField()
    points = models.BinaryField()

    class Meta:
        ordering = ["series", "attempt", "lap", "index"]
        constraints = [models.UniqueConstraint(fields=["series", "attempt", "lap", "index"], name="one_chunk_an_index")]
        # Points are counted in the index alone, because rows are as large as their points.
        indexes = [
            models.Index(fields=["series", "attempt", "lap", "index", "count"], name="chunk_counts"),
            # The beginnings of laps and the ends of groups, with which a chart finds the chunks that it needs.
            models.Index(fields=["series", "attempt", "lap"], condition=models.Q(index=0), name="first_chunks"),
            models.Index(
                fields=["series", "attempt", "lap", "index"],
                condition=models.Q(closes_group=True),
                name="closing_chunks",
            ),
        ]


class StoredEvent(models.Model):
    """An event as it was announced: `frame` is the text that viewers receive."""

    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    seq = models.PositiveBigIntegerField()
    kind = models.CharField(max_length=LONGEST_KIND)
    at = models.DateTimeField()
    frame = models.TextField()

    class Meta:
        ordering = ["run", "seq"]
        constraints = [models.UniqueConstraint(fields=["run", "seq"], name="one_event_a_seq")]
        indexes = [models.Index(fields=["run", "kind", "seq"], name="event_by_kind")]
