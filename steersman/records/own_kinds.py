"""The records of a journal with which a script describes itself; `steersman.records.kinds` has the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from steersman import values
from steersman.records.record import Record
from steersman.records.typed_json import Json
from steersman.values.remarks import Remarks

# The maximum per run.
MOST_PARAMETERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlersRecord(Record):
    """All commands for which the training has handlers."""

    kind: ClassVar[int] = 18
    title: ClassVar[str] = "the commands that it does"
    is_of_the_leader: ClassVar[bool] = True

    commands: list[str]

    @classmethod
    def of(cls, commands: Iterable[str], *, step: int) -> HandlersRecord:
        return cls(step=step, commands=[values.as_text(command, values.LONGEST_NAME) for command in commands])


@dataclass(frozen=True, slots=True, kw_only=True)
class ParametersRecord(Record):
    """The configuration of a script, or a part of it: values by name."""

    kind: ClassVar[int] = 19
    title: ClassVar[str] = "its parameters"
    is_of_the_leader: ClassVar[bool] = True

    parameters: dict[str, Json]

    @classmethod
    def of(cls, parameters: Any, *, step: int, remarks: Remarks) -> ParametersRecord | None:
        kept = values.as_values(parameters)
        if isinstance(kept, dict):
            return cls(step=step, parameters=kept)
        given = values.shown(parameters)
        how = "a mapping, a dataclass or the arguments of argparse"
        remarks.append(f"configure() takes {how}: {given} was left out. For another object, give vars(object).")
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRecord(Record):
    """The difference between a script's files and their commit, as git prints it."""

    kind: ClassVar[int] = 20
    title: ClassVar[str] = "its uncommitted changes"
    is_of_the_leader: ClassVar[bool] = True

    patch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRolledBackRecord(Record):
    """A rank other than 0 was rolled back: its later records follow the rollback that rank 0 records.

    It is not stored, because the outcome of rank 0 has the rest.
    """

    kind: ClassVar[int] = 21
    title: ClassVar[str] = "a rollback of its rank"

    to_step: int
