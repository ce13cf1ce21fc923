"""Whether a supervisor still looks after this training."""

from __future__ import annotations

import time

from steersman.files.mailbox import Inbox
from steersman.silence import SilenceClock


class OrphanWatch:
    """Measures by this process's own monotonic clock how long no supervisor has lived."""

    # A suspended host or process must see the silence in several polls: the time between two counts up to this much.
    MOST_COUNTED_S = 30.0

    def __init__(self, mailbox: Inbox, limit_s: float) -> None:
        self._mailbox = mailbox
        self._limit_s = limit_s
        self._heartbeats = mailbox.heartbeats
        self._clock = SilenceClock(self.MOST_COUNTED_S, time.monotonic())

    def poll(self, now: float) -> tuple[float, bool]:
        """Return the seconds since the last poll, and whether there was no heartbeat for longer than the limit."""
        clock = self._clock
        elapsed = clock.tick(now)
        heartbeats = self._mailbox.heartbeats
        if heartbeats != self._heartbeats:
            self._heartbeats = heartbeats
            clock.silent_s = 0.0
        return elapsed, clock.silent_s > self._limit_s
