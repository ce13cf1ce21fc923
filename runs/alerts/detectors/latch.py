"""Hysteresis: an alarm begins after several bad values, and clears after several good ones."""

from __future__ import annotations


class Latch:
    """Counts bad values up to `needed`, and good ones down again: one good value neither prevents an alarm nor ends it.

    An alarm begins when the count is full and the first of these values is `seconds` old; it clears when the count is
    empty. `step` is the step of the first one.
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
        """Whether there were more bad values than good ones."""
        return self._count > 0

    def bad(self, step: int, time: float) -> bool:
        """Count a bad value; return whether an alarm begins with it."""
        if self._count == 0:
            self._since, self.step = time, step
        if self._count < self._needed:
            self._count += 1
        if self.active or self._count < self._needed or time - self._since < self._seconds:
            return False
        self.active = True
        return True

    def good(self) -> None:
        """Count a good value."""
        if self._count:
            self._count -= 1
            if not self._count:
                self.active = False


class Latched:
    """A detector whose alarm lasts as long as its latch is active."""

    _latch: Latch

    @property
    def active(self) -> bool:
        """Whether its alarm is active."""
        return self._latch.active
