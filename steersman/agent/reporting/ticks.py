"""The data that a supervisor has gathered for one report, before redaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from steersman.agent.journals.consoles import ConsolesRead
from steersman.agent.journals.merged import JournalsRead
from steersman.messages.disks import DiskSpace
from steersman.messages.orders import SignalRequest
from steersman.messages.reports import GpuDescription, Line, Stall


@dataclass(slots=True)
class Tick:
    """The content of one report.

    `gpus` are those that the training may use, as far as they are known. `backlog_bytes` is sent with each heartbeat;
    `not_looking_s`, `asked`, `posted` and `disk` are as in `Report`. `deadly` is the error of the supervisors that
    crashed while storing these records: they are put into the quarantine instead.
    """

    read: JournalsRead | None = None
    console: ConsolesRead | None = None
    system: dict[str, float | None] | None = None
    lines: list[Line] = field(default_factory=list)
    stall: Stall | None = None
    not_looking_s: float | None = None
    gpus: tuple[GpuDescription, ...] = ()
    backlog_bytes: int | None = None
    asked: Sequence[SignalRequest] = ()
    posted: Sequence[str] = ()
    deadly: str = ""
    disk: DiskSpace | None = None
