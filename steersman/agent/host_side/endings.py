"""Describes how a training ended, and limits how long its host side waits for an answer. No Django, no torch."""

from __future__ import annotations

import time
from collections.abc import Callable

from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.redactor import Redactor
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_FINISHED, EXIT_INTERRUPTED
from steersman.messages.ended import Concluded, Ended, LastWords
from steersman.records.kinds import EndRecord

# How long the record side may be silent after the training has ended: if this process received SIGTERM, or another
# attempt holds the run; and if somebody pressed Ctrl-C twice.
SILENT_S = 10.0
SILENT_AT_ONCE_S = 2.0

AWAY = (
    "The database did not answer: how the training ended is not recorded yet. All that it logged is in its journal; "
    "start `manage.py train` for the run again, or `manage.py watch`, to store it."
)


class GivenUp(Exception):
    """The record side did not answer in the time in which this process has to end."""


class Patience:
    """Measures how long the record side has been silent."""

    def __init__(self, interrupts: Interrupts, *, is_overtaken: bool) -> None:
        self._interrupts = interrupts
        self._is_overtaken = is_overtaken
        self._began = time.monotonic()

    def check(self, now: float, heard_at: float) -> None:
        """Raise `GivenUp` if it has been silent for too long; its last answer came at `heard_at`."""
        silent_s = now - max(self._began, heard_at)
        if self._interrupts.stops >= 2 and silent_s > SILENT_AT_ONCE_S:
            raise GivenUp
        if (self._interrupts.is_terminated or self._is_overtaken) and silent_s > SILENT_S:
            raise GivenUp


def describe_end(
    group: WorkerGroup,
    redactor: Redactor,
    *,
    last_line: Callable[[int], str],
    end: EndRecord | None,
    stops: int,
    oom_kill: bool,
    may_restart: bool,
) -> Ended:
    """Return how the processes have ended.

    `end` is the END record in the journal of rank 0, `stops` how often signals requested a stop.
    """
    worker = group.root_cause()
    last = group.end_record(worker) or (end if worker.rank == 0 else None)
    words = None
    if last is not None:
        error, traceback = redactor.text(last.error), redactor.text(last.traceback)
        words = LastWords(outcome=last.outcome, error=error, traceback=traceback)
    return Ended(
        rank=worker.rank,
        code=worker.code,
        codes=[each.code for each in group.workers],
        last_words=words,
        stopped=stops >= 1,
        interrupted=stops >= 2,
        oom_kill=oom_kill,
        last_line=redactor.text(last_line(worker.rank)),
        may_restart=may_restart,
    )


def exit_code_of(concluded: Concluded, stops: int) -> int:
    """Return the exit code of `train` after an attempt with this outcome; signals requested a stop `stops` times."""
    if stops >= 2:
        return EXIT_INTERRUPTED
    if concluded.state == "failed":
        return EXIT_BAD_INPUT if concluded.exit_code == EXIT_BAD_INPUT else EXIT_FAILED
    return EXIT_FINISHED
