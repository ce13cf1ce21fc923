"""How long runs have been silent, by this process's own monotonic clock. Knows nothing of Django.

Clocks of hosts differ, so a heartbeat counter that stands still is the only evidence; and time in which the
database could not be read counts for nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# A longer pause between two looks is ours (a suspended laptop, a busy host), not the owners' silence.
LONGEST_INTERVAL_S = 3.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the database holds of a live run: its attempt and heartbeat counter."""

    run_id: int
    attempt: int
    heartbeat: int


class SilenceWatch:
    """Counts the silence of every run that it is shown."""

    def __init__(self) -> None:
        self._silent_s: dict[Pulse, float] = {}
        self._measured_at: float | None = None

    def measure(self, pulses: Iterable[Pulse], now: float) -> dict[Pulse, float]:
        """Return for each of `pulses`, all live runs as read at `now`, the seconds in which it stood still."""
        elapsed = 0.0 if self._measured_at is None else min(now - self._measured_at, LONGEST_INTERVAL_S)
        self._measured_at = now
        self._silent_s = {
            pulse: self._silent_s[pulse] + elapsed if pulse in self._silent_s else 0.0 for pulse in pulses
        }
        return dict(self._silent_s)

    def interrupt(self) -> None:
        """The database could not be read: the time until the next look counts for nobody."""
        self._measured_at = None
