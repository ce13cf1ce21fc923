"""The records of a journal that concern alerts; `steersman.records.kinds` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from steersman import values
from steersman.records.record import Record
from steersman.values.remarks import Remarks
from steersman.values.series_names import as_series_name

AlertLevel = Literal["info", "warning", "critical"]
# Whether lower or higher values of a series are better.
Goal = Literal["min", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRecord(Record):
    """A problem that the training's own code reports."""

    kind: ClassVar[int] = 15
    title: ClassVar[str] = "the alert {name}"

    name: str
    text: str = ""
    level: AlertLevel = "warning"

    @classmethod
    def of(cls, title: Any, text: Any, level: Any, *, step: int, remarks: Remarks) -> AlertRecord:
        shown: Any = values.as_choice(level, get_args(AlertLevel), "warning", "alert(level=…)", remarks)
        name = values.as_text(title, values.LONGEST_NAME) or "alert"
        return cls(step=step, name=name, text=values.as_text(text, values.LONGEST_NOTE), level=shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRecord(Record):
    """A series to judge: lower values are better ("min"), or higher ones ("max")."""

    kind: ClassVar[int] = 16
    title: ClassVar[str] = "the goal of {name}"

    name: str
    goal: Goal

    @classmethod
    def of(cls, name: Any, goal: Any, *, step: int, remarks: Remarks) -> WatchRecord | None:
        if not isinstance(name, str):
            remarks.append(f"watch(name) takes the name of a series, not {values.shown(name)}: it is left out.")
            return None
        word: Any = values.as_choice(goal, get_args(Goal), "", "watch(goal=…)", [])
        if not word:
            least = 'give goal="min" if lower values are better, or goal="max"'
            remarks.append(f"watch(goal=…) is {values.shown(goal)}, so {values.shown(name)} is left out: {least}.")
            return None
        return cls(step=step, name=as_series_name(name, remarks), goal=word)
