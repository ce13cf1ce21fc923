"""Schemas of the reports of agents, and of requests for runs that they start."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Field, Schema

from runs.models import LARGEST_ID, LONGEST_AGENT_NAME, LONGEST_NAME, LONGEST_NOTE
from runs.recording.restart_policy import MOST_RESTARTS
from steersman.messages.agents import AgentReport, HeldRun, OfferedCommand, OfferedParameter, RefusedRun

# PostgreSQL cannot store the character NUL.
TEXT = r"^[^\x00]*$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
MOST_SLOTS = 1000
MOST_HELD = 2 * MOST_SLOTS
MOST_COMMANDS = 100
MOST_PARAMETERS = 100
LONGEST_REASON = 500
Name = Annotated[str, Field(pattern=NAME, max_length=LONGEST_AGENT_NAME)]
Title = Annotated[str, Field(pattern=TEXT, max_length=200)]
Help = Annotated[str, Field(pattern=TEXT, max_length=1000)]
# JSON has no NaN: pydantic refuses it.
Scalar = bool | int | float | Annotated[str, Field(pattern=TEXT, max_length=2000)]


class Strict(Schema):
    model_config = {"extra": "forbid"}


class ParameterBody(Strict):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)
    kind: str = Field(pattern=r"^[a-z]+$", max_length=20)
    minimum: int | float | None = None
    maximum: int | float | None = None
    choices: list[Scalar] = Field(default_factory=list, max_length=200)
    unit: Title = ""
    help: Help = ""
    default: Scalar | None = None


class CommandBody(Strict):
    name: Name
    title: Title
    help: Help = ""
    slots: int = Field(1, ge=1, le=MOST_SLOTS)
    parameters: list[ParameterBody] = Field(default_factory=list, max_length=MOST_PARAMETERS)


class HeldBody(Strict):
    run: int = Field(ge=1, le=LARGEST_ID)
    request: int = Field(ge=0, le=2**31 - 1)
    slots: int = Field(1, ge=1, le=MOST_SLOTS)
    note: str = Field("", pattern=TEXT, max_length=LONGEST_NOTE, description="What it waits for on its host")


class RefusedBody(Strict):
    run: int = Field(ge=1, le=LARGEST_ID)
    request: int = Field(ge=0, le=2**31 - 1)
    reason: str = Field(pattern=TEXT, max_length=LONGEST_REASON)


class ReportBody(Strict):
    """The whole state of an agent."""

    name: Name
    session: str = Field(pattern=r"^[0-9a-f]{32}$", description="Identifies the holder of the name")
    host: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=255)
    slots: int = Field(ge=1, le=MOST_SLOTS)
    gpus: int = Field(0, ge=0, le=MOST_SLOTS, description="How many of the slots are GPUs")
    commands: list[CommandBody] = Field(max_length=MOST_COMMANDS)
    held: list[HeldBody] = Field(default_factory=list, max_length=MOST_HELD)
    refused: list[RefusedBody] = Field(default_factory=list, max_length=MOST_HELD)
    leaves: bool = Field(False, description="true in the last report before the agent ends")

    def report(self) -> AgentReport:
        return AgentReport(
            name=self.name,
            session=self.session,
            host=self.host,
            slots=self.slots,
            gpus=self.gpus,
            commands=[_command(each) for each in self.commands],
            held=[HeldRun(**each.dict()) for each in self.held],
            refused=[RefusedRun(**each.dict()) for each in self.refused],
            leaves=self.leaves,
        )


def _command(body: CommandBody) -> OfferedCommand:
    parameters = [OfferedParameter(**each.dict()) for each in body.parameters]
    return OfferedCommand(name=body.name, title=body.title, help=body.help, slots=body.slots, parameters=parameters)


class RequestedOut(Schema):
    run: int
    request: int = Field(description="How many times the run was queued; reports about the run must contain it")
    key: str = Field(description="For `steersman run --key`")
    name: str
    command: str
    values: dict[str, Any]


class OrdersOut(Schema):
    start: list[RequestedOut]
    drop: list[int] = Field(description="Runs that are no longer wanted")
    report_again_s: float


class AgentOut(Schema):
    id: int
    name: str
    project: str = Field(description="Slug of the project")
    owner: str = Field(description="The person who started the agent; runs have the rights of this user on the host")
    is_online: bool
    slots: int
    gpus: int
    commands: list[CommandBody]


class AgentsPage(Schema):
    count: int
    items: list[AgentOut]


class RunRequestBody(Strict):
    command: Name
    parameters: dict[str, Scalar] = Field(
        default_factory=dict, description="Parameters that are left out get their defaults"
    )
    name: str = Field("", pattern=TEXT, max_length=LONGEST_NAME, description="If empty: the title of the command")
    restarts: int = Field(0, ge=0, le=MOST_RESTARTS)


class RequestedRunOut(Schema):
    run: int
    name: str
    state: str
    page: str = Field(description="The address of the run's page")
