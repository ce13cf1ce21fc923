"""Knobs, checkpoints and attempts of a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema

from steersman.kinds import KINDS


class KnobOut(Schema):
    """A value that `set_knob` can change. `value` and `effective` are by group if there are several groups."""

    name: str
    kind: str = Field(
        description=f"The kind of the knob's values: {', '.join(KINDS)}, or one that the training defines"
    )
    input: str = Field("text", description="The control that suits the knob: number, checkbox, select or text")
    step: int | None = Field(None, description="1 if the knob takes whole numbers")
    minimum: float | None = Field(description="For text: the minimum length in characters")
    maximum: float | None
    choices: list[Any]
    scale: Literal["linear", "log"]
    unit: str
    help: str
    groups: list[str]
    series: str = Field(
        description="The series that shows the value in effect; empty if the value in effect is `value`"
    )
    default: Any = Field(None, description="The default of the recipe's parameter")
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
    good: bool = Field(description="The detectors raised no alert in the 100 steps after the checkpoint")
    abandoned: bool = Field(description="The run was rolled back to a step before the checkpoint")
    host: str | None = Field(description="The host that saved it; null if it is unknown, and with a share token")
    on_host: bool = Field(description="Whether that host has the files; false if it has removed them")
    pushed: bool = Field(description="Whether the portal has a complete copy, which was sent with `steersman push`")
    created_at: datetime


class KeepIn(Schema):
    keep: bool = Field(description="Whether no rule may remove the checkpoint once the run has ended")


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
    adoptions: int = Field(description="How many times the supervisor of the attempt died and another one took over")
    outcome: str = Field(description="finished, stopped, failed or lost; empty while the attempt runs")
    exit_code: int | None
    signal: str
    error: str
    traceback: str | None = Field(None, description="Only operators and owners receive this field")


class AttemptsPage(Schema):
    count: int
    items: list[AttemptOut]
