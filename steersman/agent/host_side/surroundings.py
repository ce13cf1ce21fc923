"""The settings and the terminal of a host side. No Django, no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from steersman.agent.reporting.report_sequence import StoredProgress
from steersman.messages.ended import Concluded, SchedulerReason


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
    """The settings of a host side. `data` and `application` are folders whose names never leave the host.

    `push_s`: the time from one report to the next. `stalled_s`: the shortest silence that is a stall.
    `answers_within_s`: how long the record side may be silent after the end, in seconds, None for ever. `unanswered` is
    shown if it is silent for longer. `removed_earlier`: see `steersman.agent.reporting.kept_checkpoints`. `why_ended`
    returns why a batch system has ended the training. It may take seconds, so it is called only if that is possible.
    """

    data: Path
    application: Path
    push_s: float
    stalled_s: float
    console_files_bytes: int
    device: str = "auto"
    is_recipe: bool = False
    may_restart: bool = True
    answers_within_s: float | None = None
    removed_earlier: Sequence[str] = ()
    why_ended: Callable[[], SchedulerReason] = lambda: ""
    unanswered: str = (
        "The database did not answer, so the end of the training is not recorded yet. Everything that it logged "
        "is in its journal; start `manage.py train` for the run again, or `manage.py watch`, to store it."
    )
