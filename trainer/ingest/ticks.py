"""What one transaction of a supervisor is to store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runs.protocol.events import Event, LogLine
from steersman.agent.journals.consoles import ConsolesRead
from steersman.agent.journals.merged import JournalsRead
from steersman.agent.machine.nvml import GpuDescription


@dataclass(slots=True)
class Tick:
    """What one transaction is to store. `run` are further fields of the run, `events` what they mean to viewers, `gpus`
    are those that the training may use, as far as they are known."""

    read: JournalsRead | None = None
    console: ConsolesRead | None = None
    system: dict[str, float | None] | None = None
    lines: list[LogLine] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    gpus: tuple[GpuDescription, ...] = ()
