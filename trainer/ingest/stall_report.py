"""Tells viewers of a stall when it begins and when it ends, and how long a step usually takes. Never imports torch."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from runs.models import Run
from runs.protocol.events import StallChanged, iso
from steersman.agent.supervise.stall import StallWatch
from trainer.ingest.ticks import Tick

# The usual step is told again when it has changed by this fraction.
TOLD_CHANGE = 0.1


class StallReport:
    """What the record holds of a run's stall, against what `watch` finds."""

    def __init__(self, run: Run, attempt: int) -> None:
        self.watch = StallWatch(
            settings.STEERSMAN_STALLED_S,
            paused=run.is_paused,
            stalled=run.stalled_since is not None,
            usual_step_s=run.usual_step_s,
        )
        self._attempt = attempt
        self._stored = run.stalled_since is not None
        self._stored_step_s = run.usual_step_s

    @property
    def is_stalled(self) -> bool:
        """Whether viewers were told of a stall that lasts."""
        return self._stored

    def put(self, tick: Tick, now: float) -> None:
        """Put what has changed into `tick`; `now` in seconds of `time.monotonic`."""
        stalled_s = self.watch.measure(now)
        usual_s = self.watch.usual_step_s
        if (stalled_s > 0) != self._stored:
            since = timezone.now() - timedelta(seconds=stalled_s) if stalled_s else None
            tick.run |= {"stalled_since": since, "usual_step_s": usual_s}
            shown = iso(since) if since else None
            changed = StallChanged(attempt=self._attempt, stalled=stalled_s > 0, since=shown, usual_step_s=usual_s)
            tick.events.append(changed)
        elif usual_s and abs(usual_s - (self._stored_step_s or 0.0)) > TOLD_CHANGE * usual_s:
            tick.run["usual_step_s"] = usual_s

    def settle(self, tick: Tick) -> None:
        """`tick` is stored: what it told need not be told again."""
        if "stalled_since" in tick.run:
            self._stored = tick.run["stalled_since"] is not None
        self._stored_step_s = tick.run.get("usual_step_s", self._stored_step_s)
