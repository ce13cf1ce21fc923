"""How long something has been silent, by this process's own monotonic clock. Standard library only."""

from __future__ import annotations


class SilenceClock:
    """Adds up the time between looks as `silent_s`, each time at most `most_counted_s` of it.

    The cap is needed because this process may be suspended itself, with a laptop that sleeps or on a host that is busy.
    It hears nothing meanwhile and must not take its own sleep for the silence of others: after a pause the silence has
    to last for several looks before it counts as long. Set `silent_s` to 0 when there is a sign of life.
    """

    __slots__ = ("_most_counted_s", "looked_at", "silent_s")

    def __init__(self, most_counted_s: float, now: float | None = None) -> None:
        """Without `now` the time before the first look does not count."""
        self.silent_s = 0.0
        self._most_counted_s = most_counted_s
        self.looked_at = now

    def look(self, now: float) -> float:
        """Count the time since the last look; return all of it, the part above the cap included."""
        looked_at, self.looked_at = self.looked_at, now
        if looked_at is None:
            return 0.0
        elapsed = now - looked_at
        # A training looks at each step: a comparison costs less than min().
        self.silent_s += elapsed if elapsed < self._most_counted_s else self._most_counted_s
        return elapsed

    def skip(self) -> None:
        """Count nothing of the time until the next look."""
        self.looked_at = None
