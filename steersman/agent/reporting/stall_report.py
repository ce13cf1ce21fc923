"""Reports the beginning and the end of a stall, and the usual time of a step. No Django, no torch."""

from __future__ import annotations

from steersman.agent.reporting.ticks import Tick
from steersman.agent.supervise.stall import StallWatch
from steersman.messages.reports import Attached, Stall

# The usual step is reported again when it has changed by this fraction.
TOLD_CHANGE = 0.1


class StallReport:
    """Compares the stall that was reported to the record side with the current state of `watch`.

    `shortest_s` is the shortest silence, in seconds, that is a stall.
    """

    def __init__(self, attached: Attached, shortest_s: float) -> None:
        self.watch = StallWatch(
            shortest_s,
            paused=attached.is_paused,
            stalled=attached.is_stalled,
            usual_step_s=attached.usual_step_s,
        )
        self._stored = attached.is_stalled
        self._stored_step_s = attached.usual_step_s

    @property
    def is_stalled(self) -> bool:
        """Whether a current stall was reported to viewers."""
        return self._stored

    def put(self, tick: Tick, now: float) -> None:
        """Put the changes into `tick`; `now` in seconds of `time.monotonic`."""
        stalled_s = self.watch.measure(now)
        usual_s = self.watch.usual_step_s
        if (stalled_s > 0) != self._stored:
            tick.stall = Stall(stalled_s, usual_s)
        elif usual_s and abs(usual_s - (self._stored_step_s or 0.0)) > TOLD_CHANGE * usual_s:
            tick.stall = Stall(None, usual_s)

    def settle(self, tick: Tick) -> None:
        """Record that `tick` is stored, so that its report is not repeated."""
        if tick.stall is not None:
            self._stored_step_s = tick.stall.usual_step_s
            if tick.stall.stalled_s is not None:
                self._stored = tick.stall.stalled_s > 0
