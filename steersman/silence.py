"""How long something has been silent, by this process's own monotonic clock. Standard library only."""

from __future__ import annotations

# For watches that poll every second or so: a longer pause between two polls is their own (a suspended host, a database
# that was away), not the silence of what they watch.
MOST_COUNTED_PER_POLL_S = 3.0


class SilenceClock:
    """Adds up the time between ticks as `silent_s`, each time at most `most_counted_s` of it.

    The cap is needed because this process may be suspended itself, with a laptop that sleeps or on a host that is busy.
    It reads nothing meanwhile and must not take its own sleep for the silence of others: after a pause the silence has
    to last for several ticks before it counts as long. Set `silent_s` to 0 when there is a heartbeat.
    """

    __slots__ = ("_most_counted_s", "ticked_at", "silent_s")

    def __init__(self, most_counted_s: float, now: float | None = None) -> None:
        """Without `now` the time before the first tick does not count."""
        self.silent_s = 0.0
        self._most_counted_s = most_counted_s
        self.ticked_at = now

    def tick(self, now: float) -> float:
        """Count the time since the last tick; return all of it, the part above the cap included."""
        ticked_at, self.ticked_at = self.ticked_at, now
        if ticked_at is None:
            return 0.0
        elapsed = now - ticked_at
        # A training ticks at each step: a comparison costs less than min().
        self.silent_s += elapsed if elapsed < self._most_counted_s else self._most_counted_s
        return elapsed

    def skip(self) -> None:
        """Count nothing of the time until the next tick."""
        self.ticked_at = None
