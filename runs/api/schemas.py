"""What the API takes and gives. Times are UTC in ISO 8601; a value that is not finite is null and named beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ninja import Field, Schema

LARGEST_ID = 2**63 - 1


class ErrorOut(Schema):
    error: str = Field(description="What is wrong and what to do, in a sentence")
    field: str = Field(description="The field that it is about, empty where it is none")


class ProjectOut(Schema):
    slug: str
    name: str


class RunOut(Schema):
    """One training, from created to an end."""

    id: int
    name: str
    project: ProjectOut
    recipe: str = Field(description="Spec of the recipe, empty for a script of one's own")
    state: str
    reason: str
    silent: bool = Field(description="It should be alive but gave no sign for 12 s")
    attempt: int
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
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
    nonfinite: str = Field(description='"nan", "inf" or "-inf" where the value is null for that reason')


class RunDetailOut(RunOut):
    parameters: dict[str, Any]
    device: str
    seed: int
    deterministic: bool
    last_seq: int = Field(description="Number of the newest event: where a viewer may go on with ?since=")
    latest: dict[str, PointOut] = Field(description="Newest point of each series")
    role: str
    may: list[str] = Field(description="Commands that this caller may send")


class RunsPage(Schema):
    count: int
    items: list[RunOut]


class EpochOut(Schema):
    attempt: int
    epoch: int
    step: int
    at: datetime
    duration_s: float | None
    best: bool
    values: dict[str, float | None]
    nonfinite: dict[str, str]


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
    """Points of a series: each one where `raw`, else minimum, maximum, mean and last of each bucket."""

    axis: Literal["step", "time"]
    raw: bool
    count: int = Field(description="How many points lie in the range, shown or merged")
    steps: list[int]
    times: list[float]
    values: list[float | None] | None = None
    first_steps: list[int] | None = None
    min: list[float | None] | None = None
    max: list[float | None] | None = None
    mean: list[float | None] | None = None
    last: list[float | None] | None = None
    nonfinite: list[tuple[int, str]] = Field(description="Place in the columns, and what stood there")


class PointsOut(Schema):
    seq: int = Field(description="The event up to which this is the whole story")
    series: dict[str, ChartOut]


class CommandIn(Schema):
    """The same `id` again is one command: it is safe to repeat a request whose answer got lost."""

    command: str = Field(examples=["stop"])
    id: UUID | None = None
    arguments: dict[str, Any] = {}
    reason: str = Field("", max_length=500)


class CommandOut(Schema):
    id: UUID
    command: str
    state: str = Field(description="sent, delivered, applied, refused or expired")
    author: str
    arguments: dict[str, Any]
    sent_at: datetime
    delivered_at: datetime | None
    applied_at: datetime | None
    step: int | None
    old: Any = None
    new: Any = None
    reason: str


class CommandsPage(Schema):
    count: int
    items: list[CommandOut]


class TicketOut(Schema):
    ticket: str
    expires_in_s: int
