"""Runs and their epochs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Field, Schema

from runs.api.branching.schemas import BranchOut
from runs.api.schemas.points import PointOut
from runs.api.schemas.queue import PlaceOut


class ProjectOut(Schema):
    slug: str
    name: str


class RunOut(Schema):
    """One training, from its creation to its end."""

    id: int
    name: str
    project: ProjectOut
    recipe: str = Field(description="Spec of the recipe, empty for a script of one's own")
    state: str
    reason: str
    place: PlaceOut | None = Field(
        description="The run's position in the queue, null if the run does not wait for a device"
    )
    silent: bool = Field(description="The run should be alive, but has sent no heartbeat for 12 s")
    attempt: int
    tags: list[str]
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None = Field(
        description="Duration of all attempts, without the time between them; for a lost run, until its last heartbeat"
    )
    gpu_hours: float | None = Field(
        description="Hours of all attempts with their pauses, times the GPUs of each; null if the run never started"
    )
    last_point_at: datetime | None
    step: int
    total_steps: int | None
    epoch: int
    total_epochs: int | None
    best_metric: float | None
    best_metric_name: str
    best_epoch: int | None


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
    restarts: int = Field(description="How often the run may restart automatically after a failure")
    restarts_used: int
    usual_step_s: float | None
    stalled_since: datetime | None = Field(
        description="Since when the run sends heartbeats but makes no steps; null if its steps are as usual"
    )
    not_looking_since: datetime | None = Field(
        description="Since when a command waits because the training does not read run.stopping; null if none waits"
    )
    last_seq: int = Field(description="Number of the newest event: a viewer continues from it with ?since=")
    latest: dict[str, PointOut] = Field(description="Newest point of each series")
    role: str
    may: list[str] = Field(description="Commands that this caller may send")
    branch: BranchOut | None = Field(description="The source of the branch; null if the run is not a branch")


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
    abandoned: bool = Field(description="The run was rolled back to a step before this epoch")
    values: dict[str, float | None]
    nonfinite: dict[str, str]


class EpochOut(EpochTold):
    at: datetime


class EpochsPage(Schema):
    count: int
    items: list[EpochOut]
