"""Measures how long something, such as a supervisor, has been silent, by this process's monotonic clock."""

from __future__ import annotations

import time

from steersman.files.mailbox import Inbox

# For watches that poll about once per second: a longer pause between two polls is their own (a suspended host, an
# unavailable database), not the silence of what they watch.
MOST_COUNTED_PER_POLL_S = 3.0


class SilenceClock:
    """Sums the time between ticks as `silent_s`, at most `most_counted_s` of each.

    The cap is needed because this process may itself be suspended, on a sleeping laptop or a busy host. It reads
    nothing in that time, and must not count its own suspension as the silence of others: after a pause, the silence has
    to last for several ticks before it counts as long. Set `silent_s` to 0 when there is a heartbeat.
    """

    __slots__ = ("_most_counted_s", "ticked_at", "silent_s")

    def __init__(self, most_counted_s: float, now: float | None = None) -> None:
        """Without `now`, the time before the first tick does not count."""
        self.silent_s = 0.0
        self._most_counted_s = most_counted_s
        self.ticked_at = now

    def tick(self, now: float) -> float:
        """Count the time since the last tick; return all of it, including the part above the cap."""
        ticked_at, self.ticked_at = self.ticked_at, now
        if ticked_at is None:
            return 0.0
        elapsed = now - ticked_at
        # A training calls this at each step, and a comparison is faster than min().
        self.silent_s += elapsed if elapsed < self._most_counted_s else self._most_counted_s
        return elapsed

    def skip(self) -> None:
        """Do not count the time until the next tick."""
        self.ticked_at = None


class OrphanWatch:
    """Measures how long there was no supervisor, by this process's monotonic clock."""

    # The maximum time counted per poll: after a suspension, the silence must be seen in several polls.
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
