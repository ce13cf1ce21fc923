"""Commands of a run."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Field, Schema

from runs.models import CommandState
from runs.protocol.commands import COMMANDS

# The rows that the command log of a page shows at first.
MOST_COMMANDS_AT_ONCE = 20


class CommandIn(Schema):
    """Requests with the same `id` are one command, so it is safe to repeat a request whose answer was lost."""

    # An unknown field, such as a misspelled expiry, is an error.
    model_config = {"extra": "forbid"}

    command: str = Field(examples=["set_knob"], description=f"One of {', '.join(sorted(COMMANDS))}")
    id: UUID | None = None
    arguments: dict[str, Any] = Field({}, examples=[{"knob": "learning_rate", "value": 0.001}])
    reason: str = Field(
        "", max_length=500, description="The reason in Markdown, shown to everybody who reads the command log"
    )
    expires_in_s: float | None = Field(
        None, description="The command expires if it has not taken effect after this time"
    )
    expect: dict[str, Any] | None = Field(
        None,
        examples=[{"value": 0.003}],
        description="The command is refused if the state or value has changed before it takes effect",
    )
    at: dict[str, Any] | None = Field(
        None,
        examples=[{"step": 2000}],
        description='The command takes effect when this step or epoch is done: {"step": N} or {"epoch": N}',
    )


class CommandOut(Schema):
    id: UUID
    command: str
    state: CommandState
    author: str
    author_id: int | None = Field(description="The user's id; null for a guest, and if no person sent the command")
    arguments: dict[str, Any]
    sent_at: datetime
    delivered_at: datetime | None
    applied_at: datetime | None
    expires_at: datetime | None
    at_step: int | None
    at_epoch: int | None
    at_roll_backs: int | None = Field(description="The command takes effect only after this number of rollbacks")
    expected_state: str
    expected_value: Any = None
    attempt: int | None
    step: int | None = Field(description="The step after which the command took effect, or was refused")
    ranks: int | None = Field(description="How many processes applied the command at that step")
    old: Any = None
    new: Any = None
    effective: Any = Field(None, description="The value in effect, if a schedule multiplies the knob")
    reason: str = Field(
        description="The text of the author; an English sentence if a rule, a link or a replay sent the command"
    )
    cause: dict[str, Any] | None = Field(
        description="If a rule, a link or a replay sent the command: its `kind` (`alert`, `link`, `replay`) and values"
    )
    outcome: str = Field(description="Why the command was refused or expired, or a remark")


class WrittenQuery(Schema):
    command: list[UUID] = Field(
        min_length=1,
        max_length=MOST_COMMANDS_AT_ONCE,
        description=f"Id of a command of the run; repeat the field for up to {MOST_COMMANDS_AT_ONCE} commands",
    )


class WrittenHtml(Schema):
    id: UUID
    note: str = Field(description="The text of a note as HTML, empty for other commands")
    reason: str = Field(description="The reason as HTML, empty if no person gave one")


class WrittenOut(Schema):
    items: list[WrittenHtml]


class CommandsPage(Schema):
    count: int
    items: list[CommandOut]
