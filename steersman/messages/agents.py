"""The messages of an agent and a portal: the commands that the agent offers, and the runs that it is to start.

Each request of an agent holds its whole state, and each answer all that it is to do: after a lost request or answer the
next one brings both sides to the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from steersman.records.typed_json import Json
from steersman.spec import ValueSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedParameter:
    """A parameter of an offered command, as `steersman.spec.ValueSpec` declares it."""

    name: str
    kind: str
    minimum: Json = None
    maximum: Json = None
    choices: list[Json] = field(default_factory=list)
    unit: str = ""
    help: str = ""
    default: Json = None

    @classmethod
    def of(cls, spec: ValueSpec) -> OfferedParameter:
        return cls(
            name=spec.name, kind=spec.kind, minimum=spec.minimum, maximum=spec.maximum, choices=list(spec.choices),
            unit=spec.unit, help=spec.help, default=spec.default,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedCommand:
    """A command that may be started on request; `slots` is how many of the agent's slots it takes."""

    name: str
    title: str
    help: str = ""
    slots: int = 1
    parameters: list[OfferedParameter] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRun:
    """A run that the agent starts, or that trains. `request` is the number of the request that it answers.

    `note` says what it waits for, such as the state of a Slurm job; "" if it waits for nothing.
    """

    run: int
    request: int
    slots: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRun:
    """A run that the agent does not start, or could not start; `reason` is a sentence for people."""

    run: int
    request: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentReport:
    """The state of an agent. `session` identifies the holder of the name: a second one is refused.

    `leaves` is true in the last report before the agent ends.
    """

    name: str
    session: str
    host: str
    slots: int
    gpus: int = 0
    commands: list[OfferedCommand] = field(default_factory=list)
    held: list[HeldRun] = field(default_factory=list)
    refused: list[RefusedRun] = field(default_factory=list)
    leaves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedRun:
    """A run to start, or to continue if its launch `key` is known on the host."""

    run: int
    request: int
    key: str
    name: str
    command: str
    values: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOrders:
    """What an agent is to do: start the runs of `start`, and give up those of `drop` that do not train yet."""

    start: list[RequestedRun] = field(default_factory=list)
    drop: list[int] = field(default_factory=list)
    report_again_s: float = 2.0
