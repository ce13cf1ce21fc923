"""Detectors that compare a value with a limit: thresholds that people set, limits of the hardware, data waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runs.alerts.detectors.latch import Latch, Latched
from runs.alerts.detectors.points import Severity
from runs.alerts.detectors.seen import Seen

# The detector of limits that people set.
THRESHOLD = "threshold"
# The harmful bits of NVML's nvmlClocksEventReason: hardware slow-down, thermal limits by driver or hardware, power
# brake. Power limits and idle clocks are normal.
HARMFUL_REASONS = 0x8 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True, slots=True)
class LimitDefaults:
    """A value beyond `limit` in `points` points, for `seconds` at least; the alarm clears beyond `clear_at`."""

    limit: float
    clear_at: float
    above: bool = True
    points: int = 1
    seconds: float = 0.0
    ignored: int = 0


# More than half of the step time: a faster loader would then gain more than a faster model.
DATA_BOUND = LimitDefaults(limit=0.5, clear_at=0.35, points=30, seconds=2.0, ignored=20)
# A minute of samples, one per second.
GPU_IDLE = LimitDefaults(limit=5.0, clear_at=15.0, above=False, points=60, seconds=30.0)
GPU_THROTTLED = LimitDefaults(limit=0.5, clear_at=0.5, points=10)
# Data-centre GPUs throttle from 85 to 90 degrees Celsius.
GPU_HOT = LimitDefaults(limit=85.0, clear_at=80.0, points=10)
# A caching allocator uses most of the memory in healthy trainings too.
GPU_MEMORY = LimitDefaults(limit=0.98, clear_at=0.95, points=10)


class Limit(Latched):
    """A value beyond its limit, with hysteresis: a Schmitt trigger (Schmitt, 1938) that counts.

    NaN is neither beyond the limit nor within. `measure` converts a value into the number that is compared.
    """

    def __init__(
        self,
        name: str,
        asked: LimitDefaults,
        severity: Severity = "warning",
        measure: Callable[[float], float] | None = None,
    ) -> None:
        self.name = name
        self.severity = severity
        self.asked = asked
        self._measure = measure
        self._latch = Latch(asked.points, asked.seconds)
        self._ignored = asked.ignored

    def see(self, seen: Seen) -> bool:
        if self._ignored:
            self._ignored -= 1
            return False
        asked = self.asked
        value = seen.value if self._measure is None else self._measure(seen.value)
        if value > asked.limit if asked.above else value < asked.limit:
            return self._latch.bad(seen.step, seen.time)
        is_well = value < asked.clear_at if asked.above else value > asked.clear_at
        # Values between the two limits do not end an alarm.
        if is_well or not self._latch.active:
            self._latch.good()
        return False


def threshold(asked: LimitDefaults) -> Limit:
    """Return a detector of a limit that a person set."""
    return Limit(THRESHOLD, asked)


def harmful(reasons: float) -> float:
    """Return 1 if a mask of throttle reasons has a harmful one, else 0."""
    return float(bool(int(reasons) & HARMFUL_REASONS)) if reasons == reasons else 0.0


class Memory:
    """A GPU's memory is nearly full: `gpu/<i>/memory_used_mib` as a part of `memory_total_mib`."""

    name = "gpu-memory"
    severity: Severity = "warning"

    def __init__(self, asked: LimitDefaults = GPU_MEMORY) -> None:
        self._total = 0.0
        self._limit = Limit(self.name, asked, measure=self._part)

    @property
    def active(self) -> bool:
        return self._limit.active

    def _part(self, used: float) -> float:
        return used / self._total

    def note_total(self, total: float) -> None:
        self._total = total

    def see(self, seen: Seen) -> bool:
        return self._total > 0 and self._limit.see(seen)
