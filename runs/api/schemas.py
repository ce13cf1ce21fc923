"""Schemas of requests and responses. Times are UTC in ISO 8601; a value that is not finite is null, and another field
names it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from ninja import Field, Schema

from runs.api.branching.schemas import BranchOut
from runs.curation.several import MOST_RUNS, Action
from runs.curation.tags import MOST_TAGS
from runs.models import LARGEST_ID, AfterCondition, AlertState, CommandState, Severity
from runs.protocol.commands import COMMANDS
from steersman.kinds import KINDS


class ErrorOut(Schema):
    error: str = Field(description="What is wrong and what to do, in a sentence")
    field: str = Field(description="The field with the error, empty if there is none")


class TagsIn(Schema):
    """Tags to add to a run and to remove from it."""

    model_config = {"extra": "forbid"}

    add: list[str] = Field([], max_length=MOST_TAGS)
    remove: list[str] = Field([], max_length=MOST_TAGS, description="Tags that the run does not have are ignored")


class SeveralIn(Schema):
    """An action on several runs."""

    model_config = {"extra": "forbid"}

    runs: list[Annotated[int, Field(ge=1, le=LARGEST_ID)]] = Field(min_length=1, max_length=MOST_RUNS)
    action: Action
    add: list[str] = Field([], max_length=MOST_TAGS, description="With the action tag: the tags")
    remove: list[str] = Field([], max_length=MOST_TAGS)
    reason: str = Field("", max_length=500, description="With the action stop: the reason, which all members can read")


class LeftOutOut(Schema):
    run: int
    name: str = Field(description="Empty if the caller may not see the run")
    why: str


class SeveralOut(Schema):
    done: list[int]
    left_out: list[LeftOutOut] = Field(description="The runs that were left unchanged, each with the reason")


class AboutIn(Schema):
    """What people write about a run; a field that is left out stays as it is."""

    model_config = {"extra": "forbid"}

    name: str | None = Field(None, max_length=1000)
    description: str | None = Field(None, max_length=100_000, description="In Markdown, up to 20,000 characters")


class TagsOut(Schema):
    tags: list[str] = Field(description="The tags that the run has now, in lower case, by name")


class ProjectOut(Schema):
    slug: str
    name: str


class AwaitedOut(Schema):
    """The run that a queued run waits for."""

    run: int | None = Field(description="null if the caller may not see it")
    state: str = Field(description="Empty if it was deleted")
    condition: AfterCondition = Field(description="How that run must have ended")


class PlaceOut(Schema):
    """The position of a queued run for its devices, or the run that it waits for first."""

    number: int = Field(description="1: the run starts next on that device; 0: it waits for another run")
    device: str = Field(description="cpu, cuda:1 or, for any GPU, cuda; auto if no known host has one")
    ranks: int = Field(description="How many such devices it waits for")
    host: str = Field(description="If empty: the first host with free devices")
    after: list[int] = Field(description="Runs ahead that the caller may see")
    hidden: int = Field(description="Number of other runs ahead")
    priority: int
    why: str = Field(description="Why it cannot use the GPUs, such as another program on them")
    awaits: AwaitedOut | None
    stuck: bool = Field(description="It cannot start automatically: its condition can no longer be met")
    text: str = Field(description="The position as a sentence")


class QueueIn(Schema):
    """How to queue a run."""

    model_config = {"extra": "forbid"}

    host: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]*$", max_length=255, description="If empty: the first host with free devices"
    )
    after: int | None = Field(None, ge=1, le=LARGEST_ID, description="An earlier run that it waits for")
    after_condition: AfterCondition = Field(AfterCondition.FINISHED, description="ended: also stopped, failed, deleted")
    priority: int = Field(0, ge=-10, le=0, description="Runs below 0 start after all others")


class RunningOut(Schema):
    run: int
    state: str
    percent: int | None
    left_s: float | None = Field(description="Seconds left at the pace of this attempt, null if unknown")


class WaitingOut(Schema):
    run: int
    place: PlaceOut


class HostOut(Schema):
    """A host, the runs that train there, and the runs that wait for it, in the order in which they start."""

    name: str = Field(description="If empty: any host")
    heartbeat_at: datetime | None
    is_away: bool
    running: list[RunningOut]
    running_more: int = Field(description="How many more the caller may see")
    running_hidden: int = Field(description="How many the caller may not see")
    waiting: list[WaitingOut]
    waiting_more: int
    waiting_hidden: int


class QueueOut(Schema):
    count: int
    items: list[HostOut]


class RunOut(Schema):
    """One training, from its creation to its end."""

    id: int
    name: str
    project: ProjectOut
    recipe: str = Field(description="Spec of the recipe, empty for a script of one's own")
    state: str
    reason: str
    place: PlaceOut | None = Field(description="Its position in the queue, null if it does not wait for a device")
    silent: bool = Field(description="It should be alive but has sent no heartbeat for 12 s")
    attempt: int
    tags: list[str]
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None = Field(
        description="Duration of its attempts, without the time between them; for a lost run, until its last heartbeat"
    )
    gpu_hours: float | None = Field(
        description="Hours of its attempts, pauses included, times the GPUs that each held; null if it never started"
    )
    last_point_at: datetime | None
    step: int
    total_steps: int | None
    epoch: int
    total_epochs: int | None
    best_metric: float | None
    best_metric_name: str
    best_epoch: int | None


class PointOut(Schema):
    step: int
    time: float = Field(description="Seconds since 1970, UTC")
    value: float | None
    nonfinite: str = Field(description='"nan", "inf" or "-inf" if the value is null for that reason')


class RunDetailOut(RunOut):
    parameters: dict[str, Any]
    device: str
    seed: int
    deterministic: bool
    ranks: int = Field(description="Processes that train together")
    start_paused: bool
    extra_epochs: int = Field(description="Epochs that were added by extend")
    offers: list[str] = Field(
        description="Which of save_checkpoint, evaluate, extend, roll_back and end_process the training accepts"
    )
    restarts: int = Field(description="How often it may restart automatically after a failure")
    restarts_used: int
    usual_step_s: float | None
    stalled_since: datetime | None = Field(
        description="It sends heartbeats but has not stepped for far longer than usual"
    )
    not_looking_since: datetime | None = Field(
        description="Since when a command waits because the training does not read run.stopping"
    )
    last_seq: int = Field(description="Number of the newest event: a viewer continues from it with ?since=")
    latest: dict[str, PointOut] = Field(description="Newest point of each series")
    role: str
    may: list[str] = Field(description="Commands that this caller may send")
    branch: BranchOut | None = Field(description="Its source, null if the run is not a branch")


class RunsPage(Schema):
    count: int = Field(description="How many runs match, on all pages")
    items: list[RunOut]
    next: str | None = Field(description="Address of the next page, null on the last one")


class EpochTold(Schema):
    attempt: int
    epoch: int
    order: int = Field(description="How many times the attempt had logged this epoch before; the newest values count")
    step: int
    duration_s: float | None
    best: bool
    abandoned: bool = Field(description="The run was rolled back to a step before it")
    values: dict[str, float | None]
    nonfinite: dict[str, str]


class EpochOut(EpochTold):
    at: datetime


class EpochsPage(Schema):
    count: int
    items: list[EpochOut]


class SeriesOut(PointOut):
    """A series and its newest point."""

    name: str
    axis: Literal["step", "time"]


class SeriesPage(Schema):
    count: int
    items: list[SeriesOut]


class ChartOut(Schema):
    """Points of a series: single ones if `raw`, otherwise minimum, maximum, mean and last value of each bucket."""

    axis: Literal["step", "time"]
    raw: bool
    count: int = Field(description="Number of points in the range, including merged ones")
    steps: list[int]
    times: list[float]
    values: list[float | None] | None = None
    first_steps: list[int] | None = None
    min: list[float | None] | None = None
    max: list[float | None] | None = None
    mean: list[float | None] | None = None
    last: list[float | None] | None = None
    nonfinite: list[tuple[int, str]] = Field(description="Index in the columns, and the value there")
    nonfinite_steps: list[int] | None = Field(
        None, description="The step of the first such value in each of these buckets"
    )
    nonfinite_counts: list[int] | None = Field(None, description="Number of such values in each of these buckets")
    counts: list[int] | None = Field(None, description="Number of points in each bucket")
    buckets: int | None = Field(None, description="Number of buckets; null with `raw`")


class PointsOut(Schema):
    seq: int = Field(description="The event up to which this is complete")
    series: dict[str, ChartOut]


class AttemptChartsOut(Schema):
    """A series by attempt, and by lap if its step went back. An attempt counts up to the first step of a later one,
    which trained the following steps again.
    """

    axis: Literal["step", "time"]
    attempts: dict[int, ChartOut]
    laps: dict[int, dict[int, ChartOut]] = Field(
        description="By attempt and lap: lap N has the points after the step went back for the Nth time"
    )


class AttemptPointsOut(Schema):
    seq: int = Field(description="The event up to which this is complete")
    series: dict[str, AttemptChartsOut]


class StretchOut(Schema):
    """Consecutive points of one series in one lap of an attempt, as logged."""

    name: str
    attempt: int
    lap: int = Field(description="How many times the step of the series went back in this attempt before these points")
    steps: list[int]
    times: list[float] = Field(description="Seconds since 1970, UTC, to the millisecond")
    values: list[float | None]
    nonfinite: list[tuple[int, str]] = Field(description="Index in the columns, and the value there")


class RawPointsOut(Schema):
    """A page of points ordered by series, attempt and time of logging, including repeated and superseded ones."""

    seq: int = Field(description="The event up to which points were read")
    count: int = Field(description="How many points this page has")
    items: list[StretchOut]
    next: str | None = Field(description="Address of the next page, null on the last one")


class CommandIn(Schema):
    """Requests with the same `id` are one command, so it is safe to repeat a request whose answer was lost."""

    # An unknown field, such as a misspelled expiry, is an error.
    model_config = {"extra": "forbid"}

    command: str = Field(examples=["set_knob"], description=f"One of {', '.join(sorted(COMMANDS))}")
    id: UUID | None = None
    arguments: dict[str, Any] = Field({}, examples=[{"knob": "learning_rate", "value": 0.001}])
    reason: str = Field("", max_length=500, description="Why, for everybody who reads the command log")
    expires_in_s: float | None = Field(None, description="The command expires if it has not taken effect by then")
    expect: dict[str, Any] | None = Field(
        None,
        examples=[{"value": 0.003}],
        description="The command is refused if the state or value has changed before it takes effect",
    )
    at: dict[str, Any] | None = Field(
        None,
        examples=[{"step": 2000}],
        description='When it takes effect: {"step": N} or {"epoch": N}, once these are done',
    )


class CommandOut(Schema):
    id: UUID
    command: str
    state: CommandState
    author: str
    author_id: int | None = Field(description="The user's id; null if no person sent it, and for a guest")
    arguments: dict[str, Any]
    sent_at: datetime
    delivered_at: datetime | None
    applied_at: datetime | None
    expires_at: datetime | None
    at_step: int | None
    at_epoch: int | None
    at_roll_backs: int | None = Field(description="The number of times that the run must have been rolled back by then")
    expected_state: str
    expected_value: Any = None
    attempt: int | None
    step: int | None = Field(description="The step after which it took effect, or was refused")
    ranks: int | None = Field(description="How many processes applied it at that step")
    old: Any = None
    new: Any = None
    effective: Any = Field(None, description="The value in effect, if a schedule multiplies the knob")
    reason: str = Field(description="The text of its author; an English sentence if a rule, a link or a replay sent it")
    cause: dict[str, Any] | None = Field(
        description="For a rule, a link or a replay: its `kind` (`alert`, `link`, `replay`) and its values"
    )
    outcome: str = Field(description="Why it was refused or expired, or a remark")


class CommandsPage(Schema):
    count: int
    items: list[CommandOut]


class AlertOut(Schema):
    """A fault of the training, present or past."""

    id: int
    attempt: int
    detector: str = Field(description="`code` if the training's own code raised it")
    title: str
    text: str
    cause: dict[str, Any] | None = Field(
        description="The content of `text` as data: a `kind` (`silence`, `death`, `little_space`, `layer`) with values"
    )
    series: str
    severity: Severity
    step: int | None
    began_at: datetime
    value: float | None
    nonfinite: str
    usual: str = Field(description='What was usual before, such as "0.31 ± 0.02"')
    state: AlertState
    late: bool = Field(description="The point was more than 60 s old when it was judged")
    cleared_at: datetime | None
    cleared_step: int | None
    by: str = Field(description="Who acknowledged it")
    acknowledged_at: datetime | None
    action: str = Field(description="The command that its rule sends; empty if none")
    action_state: str = Field(description="`asked`, `dry_run` or `held_back`; empty before the rule has acted")
    action_text: str
    held_back: str = Field(description="Why the rule did not act, in a word such as `same_cause`")
    command_id: str = Field(description="The command that the rule sent")
    after_roll_back: dict[str, Any] | None = Field(
        description="The result of a rollback: a `kind` (`recovered`, `fault_returned`) and its values"
    )


class SnoozeIn(Schema):
    """How long to snooze an alert."""

    model_config = {"extra": "forbid"}

    hours: float | None = Field(gt=0, le=24 * 30, description="null: until it is cleared")


class AlertsPage(Schema):
    count: int
    items: list[AlertOut]


class KnobOut(Schema):
    """A value that `set_knob` can change. `value` and `effective` are by group if there are several groups."""

    name: str
    kind: str = Field(description=f"The kind of its values: {', '.join(KINDS)}, or one that the training defines")
    input: str = Field("text", description="The control that suits it: number, checkbox, select or text")
    step: int | None = Field(None, description="1 if it takes whole numbers")
    minimum: float | None = Field(description="Minimum length of a text, in characters")
    maximum: float | None
    choices: list[Any]
    scale: Literal["linear", "log"]
    unit: str
    help: str
    groups: list[str]
    series: str = Field(description="The series that shows the value in effect, empty if it is the value itself")
    default: Any = Field(None, description="Of a recipe's parameter")
    value: Any = None
    effective: Any = None


class KnobsPage(Schema):
    count: int
    items: list[KnobOut]


class CheckpointOut(Schema):
    """Everything needed to resume from a step. `reason` is why it was saved, which determines how long it is kept."""

    id: int
    attempt: int
    step: int
    epoch: int
    name: str
    reason: Literal["last", "best", "hourly", "named", "stop"]
    size_bytes: int
    sha256: str
    metrics: dict[str, float | None]
    keep: bool = Field(description="Marked by a person: no rule removes it once the run has ended")
    good: bool = Field(description="The detectors raised no alert in the 100 steps after it")
    abandoned: bool = Field(description="The run was rolled back to a step before it")
    created_at: datetime


class KeepIn(Schema):
    keep: bool = Field(description="Whether no rule may remove the checkpoint once the run has ended")


class PinIn(Schema):
    chart: str = Field(min_length=1, max_length=200, description="Title of the chart: the name of its series")
    pinned: bool = Field(description="Whether pages of runs of the project show the chart first")


class PinsOut(Schema):
    pinned: list[str] = Field(description="Titles of the pinned charts, in the order in which they were pinned")


class CheckpointsPage(Schema):
    count: int
    items: list[CheckpointOut]


class AttemptOut(Schema):
    """One attempt of the run's processes, and how it ended."""

    number: int
    ranks: int
    started_at: datetime
    ended_at: datetime | None
    resumed_from_step: int | None
    last_step: int
    adoptions: int = Field(description="How many times its supervisor died and another one took over")
    outcome: str = Field(description="finished, stopped, failed or lost; empty while it runs")
    exit_code: int | None
    signal: str
    error: str
    traceback: str | None = Field(None, description="Only operators and owners receive this field")


class AttemptsPage(Schema):
    count: int
    items: list[AttemptOut]


class TicketOut(Schema):
    ticket: str
    expires_in_s: int
