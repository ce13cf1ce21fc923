"""Typed events: what happened to a run, numbered and stored (`runs.recording.feed.append`).

Imports neither Django nor torch. `docs/protocol.md` describes every kind, and a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from runs.protocol.causes import AfterRollBack, AlertCause, CommandCause, RunCause
from steersman.marked_text import gettext_noop

# The values of a series, null if one is not finite or was not reported.
Column = list[float | None]

# The maximum length of an event's kind in the database.
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

    `steps`, `times` (seconds since the epoch, UTC) and each column of `values` have the same length. A value that is
    not finite is null in `values` and listed in `nonfinite` as `[index, "nan"|"inf"|"-inf"]`. With `float32`, the
    numbers of all columns except those in `float64` must be rounded to float32 to get the logged values;
    `runs.series.float32` shortens and restores them. `laps` has, by name, how often the step of a series had gone back
    in this attempt before these points; 0 for a series without an entry. If several events were merged for a viewer,
    `seqs` has the number of the event of each step (`runs.protocol.merged_metrics`).
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
    """Step metrics of one tick. `step` is the run's step after it, `last_point_at` the time of its last point."""

    kind: ClassVar[str] = gettext_noop("metrics")
    attempt: int
    step: int
    last_point_at: str
    blocks: list[Block]


class EpochDone(Event, frozen=True, kw_only=True):
    """One epoch is complete. `values` has every number that the epoch reported.

    If they are too many for a frame, there are several events: `part` 0 replaces earlier values of this epoch, attempt
    and order, and each later part adds its values. All other fields are the same in every part. A `best` epoch is the
    best by the value `best_metric` with the name `best_metric_name`. `order` is the number of times that this attempt
    had logged the epoch before; the newest counts.
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
    """The row of the best epoch, and the value by which it is the best."""

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
    """The fields of an attempt that every viewer may see; times are ISO 8601, UTC."""

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
    """The run's state and everything that depends on it, or its plan, has changed. Created by `runs.recording.status`.

    `reason` explains the state of the run, in English if `cause` has the same content as data; `remark` is a further
    sentence about this change. `trained_s` is the time in attempts until `training_since`, or the total if that is
    null, as while the run is paused. Pauses and the time between attempts do not count.
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
    # Those of save_checkpoint, evaluate, extend, roll_back and end_process that the training supports.
    offers: list[str]
    # Since when a command waits for a training that does not read `run.stopping`.
    not_looking_since: str | None


class EnvironmentRecorded(Event, frozen=True, kw_only=True):
    """The environment of an attempt was reported; the details of the run contain it."""

    kind: ClassVar[str] = gettext_noop("environment")
    attempt: int


class AboutChanged(Event, frozen=True, kw_only=True):
    """Name, description, tags, review or archive of the run changed: the details of the run contain them.

    It holds no word of them, because guests receive it too.
    """

    kind: ClassVar[str] = gettext_noop("about")


class SystemSampled(Event, frozen=True, kw_only=True):
    """Samples of host and GPUs, once per second. Names such as `gpu/0/utilisation`; docs/protocol.md has the units."""

    kind: ClassVar[str] = gettext_noop("system")
    attempt: int
    step: int
    time: float
    values: dict[str, float | None]


class CommandChanged(Event, frozen=True, kw_only=True):
    """A command was sent, or its state changed: sent, delivered, then applied, refused or expired.

    If no person gave the reason, `cause` has the content of the English `reason` as data.
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
    at_roll_backs: int | None = None
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
    """The knobs of the training: specs, values, and effective values if a schedule multiplies them.

    Each of `knobs` has the fields of `steersman.spec.ValueSpec`, `value` and `effective`; the last two are objects by
    parameter group if `groups` is not empty. `part` 0 replaces all knobs. The knobs of a later part replace those with
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
    """An alert began or changed: the whole alert as of now. `by` is the person who acknowledged it.

    `cause` is the content of `text` as data: for a lost run, a full disk, and the layer where it began. `action`
    is the action of its rule, `command_id` its command, `held_back` the reason if the rule did not act.
    `after_roll_back` is the result of a rollback for this alert.
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
    after_roll_back: AfterRollBack | None = None


class CheckpointSaved(Event, frozen=True, kw_only=True):
    """A checkpoint is complete on disk and verified. `metrics_left_out` counts metrics beyond the size of a frame."""

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
    """Checkpoints, by id, that were removed by a retention rule, or are missing on the disk."""

    kind: ClassVar[str] = gettext_noop("checkpoints_removed")
    attempt: int
    ids: list[int]


class CheckpointMarked(Event, frozen=True, kw_only=True):
    """A person marked the checkpoint `id`, so that no retention rule removes it, or removed the mark; or it became
    `good`, because the detectors found nothing for a while after it.
    """

    kind: ClassVar[str] = gettext_noop("checkpoint_marked")
    attempt: int
    id: int
    keep: bool
    good: bool = False


class CheckpointPlaced(Event, frozen=True, kw_only=True):
    """The places that have the files of the checkpoint `id` changed: the host that saved it, and the portal."""

    kind: ClassVar[str] = gettext_noop("checkpoint_placed")
    attempt: int
    id: int
    on_host: bool
    pushed: bool


class TextLogged(Event, frozen=True, kw_only=True):
    """A text logged by the training, such as a sample of a language model."""

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
    """The incomplete lines of the console, such as a progress bar. They replace those of the previous such event."""

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
        CheckpointPlaced,
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
