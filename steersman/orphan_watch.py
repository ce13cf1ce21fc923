"""Whether anybody still supervises this training."""

from __future__ import annotations

import time

from steersman.files.mailbox import Mailbox
from steersman.silence import SilenceClock


class Guard:
    """Tells how long no supervisor has lived, by this process's own monotonic clock."""

    # A host that slept, or a process that was suspended, must see the silence in several looks of its own.
    MOST_COUNTED_S = 30.0

    def __init__(self, mailbox: Mailbox, limit_s: float) -> None:
        self._mailbox = mailbox
        self._limit_s = limit_s
        self._heartbeats = mailbox.heartbeats
        self._clock = SilenceClock(self.MOST_COUNTED_S, time.monotonic())

    def look(self, now: float) -> tuple[float, bool]:
        """Return the seconds since the last look, and whether the silence has lasted for too long."""
        clock = self._clock
        elapsed = clock.look(now)
        heartbeats = self._mailbox.heartbeats
        if heartbeats != self._heartbeats:
            self._heartbeats = heartbeats
            clock.silent_s = 0.0
        return elapsed, clock.silent_s > self._limit_s
