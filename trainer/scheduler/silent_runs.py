"""Measures how long runs have been silent, by this process's own monotonic clock. Does not import Django.

Clocks of hosts differ, so an unchanged heartbeat counter is the only evidence. Time in which the database could not be
read does not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from steersman.silence import MOST_COUNTED_PER_POLL_S, SilenceClock


@dataclass(frozen=True, slots=True)
class Pulse:
    """The row of a live run: its attempt and heartbeat counter."""

    run_id: int
    attempt: int
    heartbeat: int


class SilenceWatch:
    """Measures the silence of every run that is passed to it."""

    def __init__(self) -> None:
        self._clock = SilenceClock(MOST_COUNTED_PER_POLL_S)
        # The time at which each pulse was first seen.
        self._seen_at_s: dict[Pulse, float] = {}

    def measure(self, pulses: Iterable[Pulse], now: float) -> dict[Pulse, float]:
        """Return for each of `pulses`, all live runs as read at `now`, the seconds since it last changed."""
        self._clock.tick(now)
        counted_s = self._clock.silent_s
        self._seen_at_s = {pulse: self._seen_at_s.get(pulse, counted_s) for pulse in pulses}
        return {pulse: counted_s - seen_at_s for pulse, seen_at_s in self._seen_at_s.items()}

    def interrupt(self) -> None:
        """Record that the database could not be read: the time until the next read does not count."""
        self._clock.skip()
