"""What a host side is given by whoever starts it: its settings, and the terminal that it tells. No Django, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from steersman.agent.reporting.report_sequence import StoredProgress
from steersman.messages.ended import Concluded


class Display(Protocol):
    """The terminal of the person who trains."""

    def show(self, progress: StoredProgress) -> None: ...
    def console(self, lines: list[str]) -> None: ...
    def unfinished(self, lines: list[str]) -> None: ...
    def say(self, text: str) -> None: ...
    def end(self, progress: StoredProgress, end: Concluded) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How a host side works. `data` and `application` are folders whose names leave no host.

    `push_s`: the time from one report to the next. `stalled_s`: the shortest silence that is a stall.
    """

    data: Path
    application: Path
    push_s: float
    stalled_s: float
    console_files_bytes: int
    device: str = "auto"
    is_recipe: bool = False
    may_restart: bool = True
