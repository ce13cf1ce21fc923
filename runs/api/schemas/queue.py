"""The queue: positions of runs, and what each host trains."""

from __future__ import annotations

from datetime import datetime

from ninja import Field, Schema

from runs.models import LARGEST_ID, AfterCondition


class AwaitedOut(Schema):
    """The run that a queued run waits for."""

    run: int | None = Field(description="null if the caller may not see the run")
    state: str = Field(description="State of the run; empty if the run was deleted")
    condition: AfterCondition = Field(description="How the run must have ended")


class PlaceOut(Schema):
    """The position of a queued run for its devices, or the run that it waits for first."""

    number: int = Field(description="1: the run starts next on that device; 0: it waits for another run")
    device: str = Field(description="cpu, cuda:1 or, for any GPU, cuda; auto if no known host has one")
    ranks: int = Field(description="How many such devices the run waits for")
    host: str = Field(description="If empty: the first host with free devices")
    after: list[int] = Field(description="Runs ahead that the caller may see")
    hidden: int = Field(description="Number of other runs ahead")
    priority: int
    why: str = Field(description="Why the run cannot use the GPUs, for example because another program uses them")
    awaits: AwaitedOut | None
    agent: str = Field("", description="The agent that starts the run; `device` is then empty")
    stuck: bool = Field(description="The run cannot start automatically, because its condition can no longer be met")
    text: str = Field(description="The position as a sentence")


class QueueIn(Schema):
    """How to queue a run."""

    model_config = {"extra": "forbid"}

    host: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]*$", max_length=255, description="If empty: the first host with free devices"
    )
    after: int | None = Field(None, ge=1, le=LARGEST_ID, description="An earlier run that this run waits for")
    after_condition: AfterCondition = Field(
        AfterCondition.FINISHED,
        description="finished: start only if that run finishes; ended: also if it is stopped, fails or is deleted",
    )
    priority: int = Field(0, ge=-10, le=0, description="Runs with a priority below 0 start after all others")


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
    running_more: int = Field(description="How many more running runs the caller may see")
    running_hidden: int = Field(description="How many running runs the caller may not see")
    waiting: list[WaitingOut]
    waiting_more: int
    waiting_hidden: int


class QueueOut(Schema):
    count: int
    items: list[HostOut]
