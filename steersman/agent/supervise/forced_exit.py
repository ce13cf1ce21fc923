"""Makes sure that `train` ends when it is told to, also where the database holds its main thread. No Django, no torch.

A frozen database may keep a statement for ever. What a signal asks then reaches the training by this thread, and the
process ends by it. Nothing is lost: the logged records are in the journal, and the next supervisor stores them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import psutil

from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_INTERRUPTED

MAIN_THREAD_CHECK_INTERVAL_S = 0.25
# The main thread looks every 10 ms; one that has not for so long waits for something.
STUCK_AFTER_S = 2.0
# How long a database may take to record the end, once the training has ended and SIGTERM wants this process to end.
RECORD_END_TIMEOUT_S = 10.0


class Workers(Protocol):
    """The training processes, as far as this thread needs them."""

    @property
    def pids(self) -> list[int]: ...
    def kill(self, number: signal.Signals) -> None: ...


class ForcedExit:
    """A daemon thread between `start` and `stop`. `looked_at` returns when the main thread looked last, in seconds of
    `time.monotonic`; `post` hands a stop to the training without the database."""

    def __init__(
        self, interrupts: Interrupts, workers: Workers, looked_at: Callable[[], float], post: Callable[[], None]
    ) -> None:
        self._interrupts = interrupts
        self._workers = workers
        self._looked_at = looked_at
        self._post = post
        self._wanted_since: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="last resort", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(MAIN_THREAD_CHECK_INTERVAL_S):
            now = time.monotonic()
            if self._interrupts.stops and now - self._looked_at() > STUCK_AFTER_S:
                self._act(now)

    def _act(self, now: float) -> None:
        at_once = self._interrupts.stops >= 2
        if at_once:
            self._workers.kill(signal.SIGKILL)
        else:
            # A disk that does not take it now may take it when this thread looks again.
            with suppress(OSError):
                self._post()
        if not at_once and (not self._interrupts.is_terminated or self._any_lives()):
            self._wanted_since = None
            return
        self._wanted_since = now if self._wanted_since is None else self._wanted_since
        if now - self._wanted_since > (STUCK_AFTER_S if at_once else RECORD_END_TIMEOUT_S):
            print(AWAY, file=sys.stderr, flush=True)
            os._exit(EXIT_INTERRUPTED)

    def _any_lives(self) -> bool:
        """Return whether a training process runs. The main thread, which would reap it, is held."""
        for pid in self._workers.pids:
            try:
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    return True
            except psutil.NoSuchProcess:
                continue
        return False


AWAY = (
    "The database did not answer, so the end of the training is not stored yet. Everything that it logged is in its "
    "journal; "
    "start `manage.py train` for the run again, or `manage.py watch`, to store it."
)
