"""Hysteresis: an alarm begins after several signs, lasts, and clears after several of the contrary."""

from __future__ import annotations


class Latch:
    """Counts signs up to `needed` and down again: a single sign to the contrary neither prevents an alarm nor ends it.

    An alarm begins when the count is full and the first of these signs is `seconds` old; it clears when the count is
    empty. `step` is that of the first sign.
    """

    __slots__ = ("_count", "_needed", "_seconds", "_since", "active", "step")

    def __init__(self, needed: int = 1, seconds: float = 0.0) -> None:
        self._needed = needed
        self._seconds = seconds
        self._count = 0
        self._since = 0.0
        self.active = False
        self.step = 0

    @property
    def counts(self) -> bool:
        """Whether signs were seen that the contrary has not outweighed."""
        return self._count > 0

    def bad(self, step: int, time: float) -> bool:
        """Take a sign; return whether an alarm begins with it."""
        if self._count == 0:
            self._since, self.step = time, step
        if self._count < self._needed:
            self._count += 1
        if self.active or self._count < self._needed or time - self._since < self._seconds:
            return False
        self.active = True
        return True

    def good(self) -> None:
        """Take a sign to the contrary."""
        if self._count:
            self._count -= 1
            if not self._count:
                self.active = False


class Latched:
    """A detector whose alarm lasts as its latch says."""

    _latch: Latch

    @property
    def active(self) -> bool:
        """Whether its alarm lasts."""
        return self._latch.active
