"""Typed events: what happened to a run, numbered and stored (`runs.recording.feed.append`).

Imports neither Django nor torch. `docs/protocol.md` describes every kind, and a test holds the two against each other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from runs.protocol.causes import AlertCause, CommandCause, RunCause
from steersman.marked_text import gettext_noop

# The values of a series, null if one is not finite or was not reported.
Column = list[float | None]

# Of an event's kind, as it is stored.
LONGEST_KIND = 20


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A numbered, stored fact about a run. Its `kind` has at most `LONGEST_KIND` characters."""

    kind: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if len(cls.kind) > LONGEST_KIND:
            raise TypeError(f"{cls.__qualname__}: the kind {cls.kind!r} has more than {LONGEST_KIND} characters")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Points of several series that share their steps: one column per series.

    `steps`, `times` (seconds since the epoch, UTC) and each column of `values` have one length.
    A non-finite value is null in `values` and named in `nonfinite` as `[index, "nan"|"inf"|"-inf"]`.
    With `float32` the numbers of all columns but those named in `float64` are to be rounded to float32: what was
    logged. `runs.series.float32` shortens and restores them. `laps` says by name how often the step of a series had
    gone back in this attempt before these points; a series that it does not name has counted on. If several events
    were merged for one viewer `seqs` has the number of its event for each step (`runs.protocol.merged_metrics`).
    """

    steps: list[int]
    times: list[float]
    values: dict[str, Column]
    nonfinite: dict[str, list[tuple[int, str]]] = {}
    float32: bool | msgspec.UnsetType = msgspec.UNSET
    float64: list[str] | msgspec.UnsetType = msgspec.UNSET
    laps: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    seqs: list[int] | msgspec.UnsetType = msgspec.UNSET


class Metrics(Event, frozen=True, kw_only=True):
    """Step metrics of one tick. `step` is the run's after it, `last_point_at` the time of its last point."""

    kind: ClassVar[str] = gettext_noop("metrics")
    attempt: int
    step: int
    last_point_at: str
    blocks: list[Block]


class EpochDone(Event, frozen=True, kw_only=True):
    """One epoch is complete. `values` holds every number that the epoch reported.

    Where they are too many for a frame several events tell them: `part` 0 takes the place of what was told of this
    epoch, attempt and order before, each later part adds its values. All else is the same in every part. `best_metric`
    and `best_metric_name` say by which value a `best` epoch is the best. `order` counts from 0 how often this attempt
    has logged the epoch before; the newest counts.
    """

    kind: ClassVar[str] = gettext_noop("epoch")
    attempt: int
    epoch: int
    step: int
    duration_s: float | None = None
    best: bool = False
    values: dict[str, float | None]
    nonfinite: dict[str, str] = {}
    best_metric: float | None = None
    best_metric_name: str = ""
    order: int = 0
    part: int = 0
    abandoned: bool = False


class BestEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """The row of an epoch that is the best, and the value by which it is."""

    attempt: int
    epoch: int
    order: int
    metric: float | None
    metric_name: str


class RolledBack(Event, frozen=True, kw_only=True):
    """The training was rolled back from step `left` to `step`, with `epoch` epochs done.

    Epochs and checkpoints after `step` are abandoned. `best` is the best epoch up to `step`.
    """

    kind: ClassVar[str] = gettext_noop("rolled_back")
    attempt: int
    step: int
    left: int
    epoch: int
    best: BestEpoch | None = None


class AttemptState(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as every viewer may know it; times are ISO 8601, UTC."""

    number: int
    ranks: int
    started_at: str
    ended_at: str | None
    resumed_from_step: int | None
    last_step: int
    adoptions: int
    outcome: str
    exit_code: int | None
    signal: str
    error: str


class StatusChanged(Event, frozen=True, kw_only=True):
    """The run's state with all that follows from it, or its plan, has changed. `runs.recording.status` makes it.

    `reason` says why the run is in its state, in English if `cause` holds the same as data; `remark` is a further
    sentence about this change. `trained_s` is the time in attempts until `training_since`, or in all if that is null,
    as while the run is paused; neither pauses nor the time between attempts count.
    """

    kind: ClassVar[str] = gettext_noop("status")
    state: str
    group: str
    reason: str
    cause: RunCause | None = None
    remark: str = ""
    attempt: int
    ranks: int
    started_at: str | None
    ended_at: str | None
    trained_s: float
    training_since: str | None
    total_epochs: int | None
    total_steps: int | None
    steps_per_epoch: int | None
    restarts: int
    restarts_used: int
    last_attempt: AttemptState | None
    # Those of save_checkpoint, evaluate, extend, roll_back and end_process that the training accepts.
    offers: list[str]
    # Since when a command waits for a training that does not look at `run.stopping`.
    not_looking_since: str | None


class EnvironmentRecorded(Event, frozen=True, kw_only=True):
    """The environment of an attempt was reported: the details of the run contain it."""

    kind: ClassVar[str] = gettext_noop("environment")
    attempt: int


class AboutChanged(Event, frozen=True, kw_only=True):
    """Name, description, tags, review or archive of the run changed: the details of the run contain them.

    It holds no word of them, because guests receive it too.
    """

    kind: ClassVar[str] = gettext_noop("about")


class SystemSampled(Event, frozen=True, kw_only=True):
    """Samples of host and GPUs, once a second. Names such as `gpu/0/utilisation`, units in docs/protocol.md."""

    kind: ClassVar[str] = gettext_noop("system")
    attempt: int
    step: int
    time: float
    values: dict[str, float | None]


class CommandChanged(Event, frozen=True, kw_only=True):
    """A command was sent or moved on: sent, delivered, then applied, refused or expired.

    `cause` tells if nobody gave the reason what `reason` tells in English.
    """

    kind: ClassVar[str] = gettext_noop("command")
    id: str
    command: str
    state: str
    author: str
    author_id: int | None = None
    arguments: dict[str, Any] = {}
    sent_at: str
    delivered_at: str | None = None
    applied_at: str | None = None
    expires_at: str | None = None
    at_step: int | None = None
    at_epoch: int | None = None
    expected_state: str = ""
    expected_value: Any = None
    attempt: int | None = None
    step: int | None = None
    ranks: int | None = None
    old: Any = None
    new: Any = None
    effective: Any = None
    reason: str = ""
    cause: CommandCause | None = None
    outcome: str = ""


class KnobsChanged(Event, frozen=True, kw_only=True):
    """The knobs of the training: specs, values, and values in effect if a schedule multiplies them.

    Each of `knobs` has the fields of `steersman.spec.ValueSpec`, `value` and `effective`; the last two are objects by
    parameter group if `groups` is not empty. `part` 0 replaces all knobs. The knobs of a later part replace those of
    the same names, or are appended.
    """

    kind: ClassVar[str] = gettext_noop("knobs")
    attempt: int
    step: int
    knobs: list[dict[str, Any]]
    part: int = 0


class StallChanged(Event, frozen=True, kw_only=True):
    """The training sends heartbeats but has not stepped for far longer than usual, or steps again."""

    kind: ClassVar[str] = gettext_noop("stall")
    attempt: int
    stalled: bool
    since: str | None = None
    usual_step_s: float | None = None


class AlertChanged(Event, frozen=True, kw_only=True):
    """Something is wrong with the training, or was: the whole alert as of now. `by` is who acknowledged it.

    `cause` tells what `text` tells in English: of a lost run, of a full disk, and of the layer where it began. `action`
    is what its rule asks of the run,
    `command_id` the command by which it did, `held_back` why it did not.
    """

    kind: ClassVar[str] = gettext_noop("alert")
    id: int
    attempt: int
    detector: str
    title: str
    text: str = ""
    cause: AlertCause | None = None
    series: str = ""
    severity: str
    step: int | None = None
    began_at: str
    value: float | None = None
    nonfinite: str = ""
    usual: str = ""
    state: str
    late: bool = False
    cleared_at: str | None = None
    cleared_step: int | None = None
    by: str = ""
    acknowledged_at: str | None = None
    action: str = ""
    action_state: str = ""
    action_text: str = ""
    held_back: str = ""
    command_id: str = ""


class CheckpointSaved(Event, frozen=True, kw_only=True):
    """A checkpoint is whole on disk and verified. `metrics_left_out` counts metrics beyond the size of a frame."""

    kind: ClassVar[str] = gettext_noop("checkpoint")
    id: int
    attempt: int
    step: int
    epoch: int
    created_at: str
    name: str
    size_bytes: int
    sha256: str
    reason: str = "last"
    metrics: dict[str, float | None] = {}
    metrics_left_out: int = 0
    abandoned: bool = False


class CheckpointsRemoved(Event, frozen=True, kw_only=True):
    """Checkpoints, by id, are kept no longer: the rule of what to keep removed them, or they are gone from the disk."""

    kind: ClassVar[str] = gettext_noop("checkpoints_removed")
    attempt: int
    ids: list[int]


class CheckpointMarked(Event, frozen=True, kw_only=True):
    """A person marked the checkpoint `id`, which no rule of pruning removes then, or took the mark away; or it is
    `good` now, since the detectors were quiet for a while after it."""

    kind: ClassVar[str] = gettext_noop("checkpoint_marked")
    attempt: int
    id: int
    keep: bool
    good: bool = False


class TextLogged(Event, frozen=True, kw_only=True):
    """A text that the training shows, such as a sample of a language model."""

    kind: ClassVar[str] = gettext_noop("text")
    attempt: int
    step: int
    epoch: int | None = None
    name: str
    text: str


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of text. `source` is "console" (the worker's output) or "steersman" (ours)."""

    text: str
    source: str = "console"
    level: str = "info"


class LogWritten(Event, frozen=True, kw_only=True):
    """Console output, and Steersman's own messages about a run (level info, warning or error)."""

    kind: ClassVar[str] = gettext_noop("log")
    attempt: int
    lines: list[LogLine]
    skipped_bytes: int = 0


class LineUnfinished(Event, frozen=True, kw_only=True):
    """The unfinished lines of the console, such as a progress bar. They replace those of the last such event."""

    kind: ClassVar[str] = gettext_noop("unfinished")
    attempt: int
    lines: list[str]


EVENTS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        Metrics,
        EpochDone,
        RolledBack,
        StatusChanged,
        SystemSampled,
        CommandChanged,
        KnobsChanged,
        StallChanged,
        AlertChanged,
        EnvironmentRecorded,
        AboutChanged,
        CheckpointSaved,
        CheckpointsRemoved,
        CheckpointMarked,
        TextLogged,
        LogWritten,
        LineUnfinished,
    )
}


def iso(moment: datetime) -> str:
    """Return `moment` as UTC, ISO 8601 with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_event(event: Event, seq: int, at: datetime) -> str:
    """Return the text frame of a numbered event: `seq`, `kind`, `at`, then its own fields."""
    head = {"seq": seq, "kind": event.kind, "at": iso(at)}
    return msgspec.json.encode(head | msgspec.structs.asdict(event)).decode()


def decode_event(frame: str | bytes) -> Event:
    """Return the typed event of a stored frame.

    Raises `ValueError` if the kind is unknown and `msgspec.ValidationError` if a field is wrong.
    """
    fields = msgspec.json.decode(frame)
    event_type = EVENTS.get(fields.get("kind"))
    if event_type is None:
        raise ValueError(f"unknown event kind {fields.get('kind')!r}")
    return msgspec.convert(fields, event_type)
