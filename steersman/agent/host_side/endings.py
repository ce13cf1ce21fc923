"""Describes how a training ended, and limits how long its host side waits for an answer. No Django, no torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from steersman.agent.launch.ended_file import ENDED_FILE, record_ended
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.redactor import Redactor
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_FINISHED, EXIT_INTERRUPTED
from steersman.messages.ended import Concluded, Ended, LastWords, SchedulerReason
from steersman.records.kinds import EndRecord

logger = logging.getLogger(__name__)

# How long the record side may be silent after the training has ended: if this process received SIGTERM, or another
# attempt holds the run; and if somebody pressed Ctrl-C twice.
SILENT_S = 10.0
SILENT_AT_ONCE_S = 2.0


class GivenUp(Exception):
    """The record side did not answer in the time in which this process has to end."""


class Patience:
    """Measures how long the record side has been silent."""

    def __init__(self, interrupts: Interrupts, *, is_overtaken: bool, longest_s: float | None = None) -> None:
        self._interrupts = interrupts
        self._longest_s = longest_s
        self._is_overtaken = is_overtaken
        self._began = time.monotonic()

    def check(self, now: float, heard_at: float) -> None:
        """Raise `GivenUp` if it has been silent for too long; its last answer came at `heard_at`."""
        silent_s = now - max(self._began, heard_at)
        if self._interrupts.stops >= 2 and silent_s > SILENT_AT_ONCE_S:
            raise GivenUp
        if self._longest_s is not None and silent_s > self._longest_s:
            raise GivenUp
        if (self._interrupts.is_terminated or self._is_overtaken) and silent_s > SILENT_S:
            raise GivenUp


def note_end(folder: Path, ended: Ended) -> None:
    """Store the outcome in a file: the record side may be unavailable for longer than this process lives."""
    try:
        record_ended(folder, ended)
    except OSError as error:
        logger.warning(
            "%s could not be written (%s): let this process end by itself, or the exit code of the training is lost",
            folder / ENDED_FILE,
            error.strerror,
        )


def describe_end(
    group: WorkerGroup,
    redactor: Redactor,
    *,
    last_line: Callable[[int], str],
    end: EndRecord | None,
    stops: int,
    oom_kill: bool,
    may_restart: bool,
    why_ended: Callable[[], SchedulerReason] = lambda: "",
) -> Ended:
    """Return how the processes have ended.

    `end` is the END record in the journal of rank 0, `stops` how often signals requested a stop. `why_ended` is asked
    only if a batch system may have ended the training.
    """
    worker = group.root_cause()
    may_be_scheduler = stops > 0 or worker.code is None or worker.code < 0
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
        scheduler=why_ended() if may_be_scheduler else "",
        rebooted=worker.was_before_reboot,
    )


def exit_code_of(concluded: Concluded, stops: int) -> int:
    """Return the exit code of `train` after an attempt with this outcome; signals requested a stop `stops` times."""
    if stops >= 2:
        return EXIT_INTERRUPTED
    if concluded.state == "failed":
        return EXIT_BAD_INPUT if concluded.exit_code == EXIT_BAD_INPUT else EXIT_FAILED
    return EXIT_FINISHED


def exit_code_of_program(ended: Ended, concluded: Concluded | None, stops: int) -> int:
    """Return the exit code of a command that runs a training as if it were run by itself.

    0 if it finished or was stopped, else the training's own: 128 + n if signal n ended it, 1 if that is not known.
    `concluded` is None if the record side did not answer; signals asked for a stop `stops` times.
    """
    if stops >= 2:
        return EXIT_INTERRUPTED
    words = ended.last_words
    ended_well = ended.code == 0 or (ended.code is None and words is not None and words.outcome != "failed")
    if ended_well or (concluded is not None and concluded.state != "failed"):
        return EXIT_FINISHED
    if ended.code is None:
        return EXIT_FAILED
    return ended.code if ended.code > 0 else 128 - ended.code
