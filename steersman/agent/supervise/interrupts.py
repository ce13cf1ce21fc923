"""The requests that signals send to `train`. No Django, no torch.

A handler only sets plain flags, because it may run while its thread holds any lock.
"""

from __future__ import annotations

import signal
from types import FrameType

WARNINGS = ("USR1", "USR2", "XCPU")


class Interrupts:
    """SIGTERM, SIGINT and a warning signal request a stop, SIGUSR1 a checkpoint.

    `stop_signal` is the warning that a batch system sends before it ends a job: USR1, USR2, XCPU or "". Raises
    `ValueError` with a sentence for anything else.
    """

    def __init__(self, stop_signal: str = "") -> None:
        name = stop_signal.upper().removeprefix("SIG")
        if name and name not in WARNINGS:
            raise ValueError(
                f"STEERSMAN_STOP_SIGNAL: {stop_signal!r} is not supported; give one of {', '.join(WARNINGS)}."
            )
        self._warning = name
        # How often a stop was requested: a second SIGINT ends the training immediately.
        self.stops = 0
        self.name = ""
        # Whether SIGTERM was received. Its sender waits for a limited time only.
        self.is_terminated = False
        # The number of requested checkpoints.
        self.saves = 0

    def install(self) -> None:
        """Handle the signals from now on. Child processes inherit ignored signals, but not handlers."""
        stopping = {signal.SIGTERM, signal.SIGINT}
        if self._warning:
            stopping.add(signal.Signals[f"SIG{self._warning}"])
        for number in stopping:
            signal.signal(number, self._stop)
        if signal.SIGUSR1 not in stopping:
            signal.signal(signal.SIGUSR1, self._save)
        # A closed terminal must not end a training of three days.
        signal.signal(signal.SIGHUP, _ignore)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT or not self.stops:
            self.stops += 1
        self.is_terminated = self.is_terminated or number == signal.SIGTERM
        # Do not wake the supervisor here: the main thread may hold that lock, and would deadlock.
        self.name = signal.Signals(number).name

    def _save(self, number: int, frame: FrameType | None) -> None:
        self.saves += 1


def _ignore(number: int, frame: FrameType | None) -> None: ...
