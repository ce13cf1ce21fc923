"""Messages with the records of a training host, which are stored exactly once even if they are sent again.

Every text in them has passed the host's redactor.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from steersman.messages.disks import DiskSpace
from steersman.messages.orders import SignalRequest
from steersman.records.kinds import PointRecord
from steersman.records.point_blocks import Stretch

# The items of a report that can each be stored or refused.
PartKind = Literal["records", "stall", "system", "lines", "console"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a journal is consumed: everything before `offset` of `segment`, all numbers below `next_number`."""

    segment: int = 0
    offset: int = 0
    next_number: int = 0


@dataclass(frozen=True, slots=True)
class Attach:
    """A host side begins to report. `token` is unique to this call; `posted` are the commands that its training has.

    Sending the same message again on the same connection begins no other session.
    """

    token: str
    posted: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """The stored state of an attempt when a host side begins to report: the answer to `Attach` with `token`.

    `session` counts the host sides that have attached so far: reports of earlier ones are no longer stored.
    `next_report` is the number of the next report. `positions` and `console_offsets` are by rank; `last_steps` has the
    last stored step of each series if the attempt has several ranks. `checkpoints` has, for each path within the
    attempt's folder, whether it is a folder with a manifest. `made_at_s` as in `Stored`.
    """

    session: int
    next_report: int
    positions: dict[int, Position]
    console_offsets: dict[int, int]
    last_steps: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    checkpoints: dict[str, bool] = field(default_factory=dict)
    is_paused: bool = False
    is_stalled: bool = False
    is_not_looking: bool = False
    usual_step_s: float | None = None
    last_step: int = 0
    token: str = ""
    made_at_s: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text that a supervisor writes to the console of its run (level info, warning or error)."""

    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class ConsoleText:
    """Console output: lines, the number of skipped bytes, and the read position of each rank's console.

    `unfinished` has the lines without a line break, None if they have not changed.
    """

    lines: Sequence[str] = ()
    skipped_bytes: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    unfinished: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """For how many seconds a training has stalled, 0.0 if it no longer does, None if nothing has changed.

    `usual_step_s` is the usual time of a step in seconds, None if it is unknown.
    """

    stalled_s: float | None
    usual_step_s: float | None


@dataclass(frozen=True, slots=True)
class GpuDescription:
    """A GPU. `memory_mib` is None if the driver does not report it; `driver` is its version, "" if unknown."""

    name: str
    uuid: str
    memory_mib: int | None
    driver: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """An item that could not be stored, and why. A file of the training host contains it."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Records to store in one transaction, if `session`, `number` and `begin` match the state of the record side.

    The points among `records` are in blocks. `begin` and `end` are the positions in the journals, by rank, before and
    after the report. `backlog_bytes` is the part of the journals that is not stored yet, None in reports between two
    heartbeats. `not_looking_s` is for how many
    seconds the training has not read waiting commands, 0.0 if it reads them again, None if nothing has changed.
    `removed_checkpoints` are paths within the attempt's folder, or that of an earlier one, as in ../1/checkpoints/last.
    `asked` are the requests of signals, `posted` the commands that were delivered since the last report. `by_rank` has
    the points of several ranks that were merged into one point, by rank. `disk` is None unless the space is little, or
    the record side may not have stored yet that there is room again.
    """

    session: int
    number: int
    begin: dict[int, Position] = field(default_factory=dict)
    end: dict[int, Position] = field(default_factory=dict)
    records: Sequence[Stretch] = ()
    unreadable: int = 0
    console: ConsoleText | None = None
    system: dict[str, float | None] | None = None
    lines: Sequence[Line] = ()
    stall: Stall | None = None
    not_looking_s: float | None = None
    gpus: tuple[GpuDescription, ...] = ()
    removed_checkpoints: Sequence[str] = ()
    set_aside: Sequence[SetAside] = ()
    backlog_bytes: int | None = None
    asked: Sequence[SignalRequest] = ()
    posted: Sequence[str] = ()
    by_rank: Sequence[Mapping[int, PointRecord]] = ()
    disk: DiskSpace | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A part of a report that cannot be stored, and why: `key` is its index, or the name of a sample.

    Each point of a block counts as one of the records. `key` is None for the part as a whole: a stall, or incomplete
    lines of a console.
    """

    kind: PartKind
    key: int | str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to report `answers` of `session`: the number of the last stored report, and the positions after it.

    A number below that of the report means that nothing of the report was stored: because parts of it are `refused`,
    and it is to be sent again without them, or because it does not continue what the record side holds.
    `report_every_s` is the time between two reports that the portal asks for, None if the host decides. `made_at_s` is
    the time of the answer, in seconds of `time.monotonic` in the process that made it: with the times of its own
    questions, the host knows how long another message of that process was in transit at most.
    """

    number: int
    positions: dict[int, Position]
    refused: Sequence[Refused] = ()
    session: int = 0
    answers: int = 0
    report_every_s: float | None = None
    made_at_s: float = field(default_factory=time.monotonic, compare=False)
