"""Asks a person at the terminal before a training starts over. Never imports torch."""

from __future__ import annotations

import os
import select
import sys
from typing import TextIO

from runs.models import Run
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_INTERRUPTED
from trainer.control.lease import CannotTrain, came_before

ANSWER_POLL_INTERVAL_S = 0.1
YES = frozenset({"y", "yes"})


def confirm_start_over(run: Run, interrupts: Interrupts) -> None:
    """Ask whether a run that has points may start over at step 1; return if it may, or if there is no terminal.

    Raises `CannotTrain` if the person says no, or a signal ends the waiting.
    """
    if not run.step or not _is_somebody_there():
        return
    begins = (
        "This attempt begins at step 1"
        if run.recipe_id
        else "Unless the script resumes by itself, the training begins at step 1"
    )
    print(
        f"Run {run.pk} was trained up to step {run.step:,}. {begins}; the curve so far stays as an earlier attempt.\n"
        "Start the training? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if _answer(run, interrupts).strip().lower() not in YES:
        raise CannotTrain(
            f"run {run.pk} was not started. To keep it unchanged, create a new run: manage.py create_run."
        )


def _is_somebody_there() -> bool:
    """Return whether a person can read and answer the question: the process is not in the background."""
    # A stream that was closed before Python started is None.
    streams: list[TextIO | None] = [sys.stdin, sys.stderr]
    try:
        return (
            all(stream is not None and stream.isatty() for stream in streams)
            and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        )
    except (OSError, ValueError):  # it is not our terminal, or was closed since
        return False


def _answer(run: Run, interrupts: Interrupts) -> str:
    """Return the typed line, "" at the end of input.

    `readline` would not return on a signal, so the input is polled.
    """
    while not select.select([sys.stdin], [], [], ANSWER_POLL_INTERVAL_S)[0]:
        if interrupts.stops:
            print(file=sys.stderr)
            raise CannotTrain(came_before(run.pk, interrupts), EXIT_INTERRUPTED)
    return sys.stdin.readline()
