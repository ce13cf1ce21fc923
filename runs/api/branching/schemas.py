"""Schemas of requests and responses about branches."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from ninja import Field, Schema

from runs.branching.requests import Start
from runs.models import LARGEST_ID, LONGEST_NAME
from runs.protocol.commands import LARGEST_REASON_CHARACTERS


class ChangeOut(Schema):
    """A value that differs between a branch and its source at the checkpoint."""

    kind: Literal["parameter", "knob"]
    name: str
    group: str = Field(description="The parameter group of a knob, empty for all")
    old: Any = Field(description="null if it is not known")
    new: Any


class BranchOut(Schema):
    """The source of a branch, the checkpoint at which it began, and its changes."""

    run: int
    source: int = Field(description="The source run, which may have been deleted")
    source_name: str = Field(description="Empty if the caller may not see the source run")
    checkpoint: int | None = Field(
        description="null if the source run no longer has the checkpoint; the branch has a copy"
    )
    checkpoint_name: str
    step: int
    epoch: int
    changes: list[ChangeOut]


class BranchBody(Schema):
    """A request for a branch. Omitted fields keep their values at the checkpoint."""

    model_config = {"extra": "forbid"}

    checkpoint: str | int = Field("newest", description="newest, best, or an id, name or step")
    name: str = Field("", max_length=LONGEST_NAME, description="If empty: the name of the source, followed by the step")
    parameters: dict[str, Any] = Field({}, description="Changed parameters of the recipe")
    knobs: dict[str, Any] = Field({}, description="Changed knobs: a value, or values by parameter group")
    start: Start = Field(
        Start.NO, description="queue: after all waiting runs; now: before the waiting runs of the project"
    )
    reason: str = Field(
        "", max_length=LARGEST_REASON_CHARACTERS, description="The reason, shown in the command logs of both runs"
    )
    id: UUID | None = Field(None, description="Idempotency key: a second request with this id returns the same branch")


class AgainBody(Schema):
    """A request to run a run again."""

    model_config = {"extra": "forbid"}

    interventions: bool = Field(True, description="Whether the applied commands are repeated at the same steps")
    name: str = Field("", max_length=LONGEST_NAME, description="If empty: the name of the run, followed by “again”")
    start: Start = Field(
        Start.NO, description="queue: after all waiting runs; now: before the waiting runs of the project"
    )
    source: int | None = Field(
        None,
        ge=1,
        le=LARGEST_ID,
        description="If the run is a branch: the run at which the new branch begins, which must repeat the source run; "
        "null: the source run",
    )
    id: UUID | None = Field(
        None,
        description="Idempotency key: a repeated request with the same id returns the run that the first one created",
    )


class RemarksOut(Schema):
    """The parts of a run that cannot be repeated."""

    remarks: list[str] = Field(description="A sentence for each reason; empty if everything can be repeated")


class MemberOut(Schema):
    """A run of a family."""

    run: int
    name: str
    state: str
    step: int
    depth: int = Field(description="0 for the oldest run")
    branch: BranchOut | None = Field(description="The source of the branch; null if the run is not a branch")


class FamilyOut(Schema):
    count: int
    items: list[MemberOut]
