"""Detects that a live training has stopped stepping, by this process's own monotonic clock. No Django, no torch."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from steersman.records.kinds import QuietRecord, StateRecord
from steersman.records.record import Record
from steersman.silence import MOST_COUNTED_PER_POLL_S, SilenceClock

# A silence is a stall if it is longer than this many times the usual interval of progress.
TIMES_USUAL = 10
# Before the second sign of progress, nothing is usual yet: data are loaded, kernels compiled. A multiple of the
# shortest stall.
TIMES_UNKNOWN = 10
KEPT_INTERVALS = 101


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean time between two signs of progress, and between two steps if they were steps, in seconds."""

    sign_s: float
    step_s: float | None


class StallWatch:
    """Watches the journal of one attempt. `shortest_s` is the shortest silence that is a stall.

    A training is stalled if it has made no progress for `shortest_s`, and for ten times the usual time between two
    signs of progress, unless it is paused or has announced a longer wait.
    """

    def __init__(
        self, shortest_s: float, *, paused: bool = False, stalled: bool = False, usual_step_s: float | None = None
    ) -> None:
        self._shortest_s = shortest_s
        self._paused = paused
        # A stall that an earlier supervisor found lasts until the training sends a heartbeat.
        self._found_before = stalled
        self._known_step_s = usual_step_s
        self._intervals: deque[Interval] = deque(maxlen=KEPT_INTERVALS)
        self._last: tuple[int, float] | None = None
        self._expected_s = 0.0
        self._clock = SilenceClock(MOST_COUNTED_PER_POLL_S)
        self._heard = False

    @property
    def usual_step_s(self) -> float | None:
        """Return the median time of a step; before the first one, the value known from earlier supervisors."""
        seen = [each.step_s for each in self._intervals if each.step_s is not None]
        return statistics.median(seen) if seen else self._known_step_s

    def note(self, records: Iterable[Record]) -> None:
        """Process the records of the journal, in order."""
        newest: Record | None = None
        regular = 0
        for record in records:
            if isinstance(record, QuietRecord):
                self._expected_s = record.seconds
                self._heard = True
                # The duration of this is no measure of the steps.
                self._last = newest = None
                regular = 0
            elif record.shows_progress:
                self._heard = True
                self._expected_s = 0.0
                self._found_before = False
                if isinstance(record, StateRecord):
                    self._paused = record.state == "paused"
                    self._last = newest = None
                    regular = 0
                elif record.is_regular:
                    newest = record
                    regular += 1
        if newest is not None:
            self._add_interval(newest, regular)

    def _add_interval(self, newest: Record, signs: int) -> None:
        if self._last is not None:
            step, time = self._last
            elapsed = newest.time - time
            # A clock that was set back gives no valid interval.
            if elapsed > 0:
                steps = newest.step - step
                self._intervals.append(Interval(elapsed / signs, elapsed / steps if steps > 0 else None))
        self._last = (newest.step, newest.time)

    def measure(self, now: float) -> float:
        """Return the seconds of a stall at `now`, 0.0 if the training makes progress. Call about once per second."""
        self._clock.tick(now)
        if self._paused or self._heard:
            # The time of the newest record is unknown, so the silence counts from now.
            self._clock.silent_s = 0.0
            self._heard = False
            return 0.0
        silent_s = self._clock.silent_s
        if self._found_before:
            return max(silent_s, 1.0)
        return silent_s if silent_s > self.allowed_s else 0.0

    @property
    def allowed_s(self) -> float:
        """Return the silence that is not yet a stall."""
        if not self._intervals:
            usual_s = self._shortest_s * TIMES_UNKNOWN / TIMES_USUAL
        else:
            usual_s = statistics.median(each.sign_s for each in self._intervals)
        return max(self._shortest_s, TIMES_USUAL * usual_s, self._expected_s)
