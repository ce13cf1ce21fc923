"""The messages by which what a training host has read becomes rows: exactly once, whatever is sent again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Position:
    """How far a journal is consumed: all before `offset` of `segment`, all numbers below `next_number`."""

    segment: int = 0
    offset: int = 0
    next_number: int = 0


@dataclass(frozen=True, slots=True)
class Attached:
    """What the record side holds of an attempt when a host side begins to report.

    `session` counts the host sides that have attached so far: a report of an earlier one is not stored any more.
    `next_report` is the number that the next report has. `positions` and `console_offsets` are by rank; `last_steps`
    has the last stored step of each series if the attempt has several ranks.
    """

    session: int
    next_report: int
    positions: dict[int, Position]
    console_offsets: dict[int, int]
    last_steps: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to a report: the number of the last report that is stored, and the positions that it led to.

    A number below that of the report means that nothing of the report was stored, because it does not continue what
    the record side holds.
    """

    number: int
    positions: dict[int, Position]
