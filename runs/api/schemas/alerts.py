"""Alerts of a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ninja import Field, Schema

from runs.models import AlertState, Severity


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
    action: str = Field(description="The command that the rule of the alert sends; empty if there is none")
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
