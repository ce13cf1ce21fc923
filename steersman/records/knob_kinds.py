"""The records of a journal that concern knobs; `steersman.records.kinds` has the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from steersman import values
from steersman.records.record import Record
from steersman.records.typed_json import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobsRecord(Record):
    """The specs and values of knobs: each has the fields of `ValueSpec.to_wire`, `value` and `effective`.

    If `partial`, the other knobs of the training are unchanged.
    """

    kind: ClassVar[int] = 11
    title: ClassVar[str] = "the knobs"
    is_of_the_leader: ClassVar[bool] = True
    shows_progress: ClassVar[bool] = True

    knobs: list[dict[str, Json]]
    partial: bool = False

    @classmethod
    def of(cls, knobs: Sequence[Mapping[str, object]], *, step: int, partial: bool = False) -> KnobsRecord:
        kept = (values.as_values(knob) for knob in knobs)
        return cls(step=step, knobs=[knob if isinstance(knob, dict) else {} for knob in kept], partial=partial)

    def check(self) -> None:
        if not all(isinstance(knob.get("name"), str) and knob["name"] for knob in self.knobs):
            raise ValueError("each knob needs a name")


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRecord(Record):
    """The effective value one step after a change of a knob, if it differs from the outcome of the change."""

    kind: ClassVar[int] = 17
    title: ClassVar[str] = "what is in effect after a command"
    is_of_the_leader: ClassVar[bool] = True
    shows_progress: ClassVar[bool] = True

    # The command that changed the knob.
    id: str
    effective: Json

    @classmethod
    def of(cls, id: str, effective: object, *, step: int) -> EffectRecord:
        return cls(step=step, id=id, effective=values.as_values(effective))
