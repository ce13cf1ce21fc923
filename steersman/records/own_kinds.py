"""The records of a journal by which a script says what it is and does; `steersman.records.kinds` has the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from steersman import values
from steersman.records.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlersRecord(Record):
    """The commands for which the training has handlers, all of them."""

    kind: ClassVar[int] = 18
    title: ClassVar[str] = "the commands that it does"
    is_of_the_leader: ClassVar[bool] = True

    commands: list[str]

    @classmethod
    def of(cls, commands: Iterable[str], *, step: int) -> HandlersRecord:
        return cls(step=step, commands=[values.as_text(command, values.LONGEST_NAME) for command in commands])
