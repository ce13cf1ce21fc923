"""The page of a run: its history as of one event, facts that no event contains, its place in line, pinned charts."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema

from runs.api.schemas.alerts import AlertOut
from runs.api.schemas.commands import CommandOut
from runs.api.schemas.points import AttemptChartsOut
from runs.api.schemas.queue import PlaceOut
from runs.api.schemas.runs import EpochTold
from runs.api.schemas.steering import AttemptOut, CheckpointOut, KnobOut


class PinIn(Schema):
    chart: str = Field(min_length=1, max_length=200, description="Title of the chart: the name of its series")
    pinned: bool = Field(description="Whether pages of runs of the project show the chart first")


class PinsOut(Schema):
    pinned: list[str] = Field(description="Titles of the pinned charts, in the order in which they were pinned")


class ReviewOut(Schema):
    note: str = Field(description="In Markdown")
    html: str = Field(description="The note as HTML, cleaned of scripts and styles")
    by: str
    at: datetime | None


class AboutOut(Schema):
    """What people wrote about a run."""

    name: str
    description: str = Field(description="In Markdown")
    html: str = Field(description="The description as HTML, cleaned of scripts and styles")
    tags: list[str]
    archived: bool
    review: ReviewOut | None


class DetailsOut(Schema):
    """Facts about the run that no event contains, environment and tracebacks, and their lists, oldest first."""

    attempts: list[AttemptOut]
    checkpoints: list[CheckpointOut]
    knobs: list[KnobOut]
    environment: dict[str, Any] = Field(description="Of the newest attempt")
    parameters: dict[str, Any]
    about: AboutOut | None = Field(description="Null for a share token")


class ConsoleLineOut(Schema):
    text: str
    source: str
    level: str
    at: datetime
    skipped: int | None = Field(None, description="Bytes of output left out here, if source is `skipped`")


class ToldEvent(Schema):
    """An event as viewers received it; docs/protocol.md describes the fields of each kind."""

    model_config = {"extra": "allow"}

    seq: int
    kind: str
    at: datetime


class TextOut(ToldEvent):
    kind: Literal["text"]
    attempt: int
    step: int
    epoch: int | None
    name: str
    text: str


class HistoryOut(DetailsOut):
    """The history of a run as of event `seq`: with the events after it, it is complete."""

    seq: int
    seq_at: str | None = Field(description="The time of event `seq`, null if that event is no longer stored")
    epochs: list[EpochTold] = Field(description="Of all attempts")
    commands: list[CommandOut]
    console: list[ConsoleLineOut]
    unfinished: list[str] = Field(description="Console lines that are not complete yet, such as a progress bar")
    events: list[ToldEvent]
    texts: list[TextOut]
    alerts: list[AlertOut]
    series: dict[str, AttemptChartsOut] = Field(
        description="For drawing: numbers of merged points are rounded to 7 digits, and `last` is left out"
    )


class PlaceAnswer(Schema):
    place: PlaceOut | None = Field(description="Null if the run does not wait for a device")
