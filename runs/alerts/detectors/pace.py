"""Detectors of a training that slows down or stalls compared with its own pace."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

from runs.alerts.detectors.latch import Latch, Latched
from runs.alerts.detectors.points import Point, Severity
from runs.alerts.detectors.seen import Seen


@dataclass(frozen=True, slots=True)
class ThroughputDefaults:
    """`part` is a fraction of the usual speed; the first `ignored` points compile kernels and fill caches."""

    ignored: int = 10
    history: int = 40
    part: float = 0.5
    clear_part: float = 0.7
    points: int = 30
    seconds: float = 2.0


class Throughput(Latched):
    """Speed has fallen below half of its past: a ratio of medians, which single slow steps do not change.

    The usual speed is the median of all blocks of the curve that were not slow. A time per step is inverted.
    """

    name = "throughput"
    severity: Severity = "warning"

    def __init__(self, defaults: ThroughputDefaults | None = None) -> None:
        self._defaults = defaults or ThroughputDefaults()
        self._latch = Latch(self._defaults.points, self._defaults.seconds)
        self._usual = 0.0

    def see(self, seen: Seen) -> bool:
        asked = self._defaults
        speed = (1 / seen.value if seen.value > 0 else 0.0) if seen.kind == "duration" else seen.value
        if seen.curve.count <= asked.ignored:
            return False
        if not self._usual or (seen.closed and not self._latch.counts):
            # Blocks that are slow now do not count as usual.
            levels = seen.curve.levels[2:] or seen.curve.levels
            level = median(levels)
            self._usual = 1 / level if seen.kind == "duration" and level > 0 else level
        if seen.curve.count < asked.history:
            return False
        part = asked.part / seen.width
        if speed < part * self._usual:
            return self._latch.bad(seen.step, seen.time)
        if speed > asked.clear_part * self._usual or not self._latch.active:
            self._latch.good()
        return False


@dataclass(frozen=True, slots=True)
class StallDefaults:
    """`shortest_s` is the shortest silence that is a stall; the others are multiples of the usual and of the greatest
    gap.
    """

    shortest_s: float = 60.0
    times_usual: float = 10.0
    times_longest: float = 3.0
    gaps: int = 64
    history: int = 5


class Stall:
    """No points for too long, compared with the run's own gaps (timeouts by past intervals as in Jacobson, 1988).

    Evaluations and checkpoints make long gaps too, so the longest of the last 64 gaps counts as well as their median.
    """

    name = "stall"
    severity: Severity = "critical"

    def __init__(self, defaults: StallDefaults | None = None) -> None:
        self._defaults = defaults or StallDefaults()
        self._gaps: deque[float] = deque(maxlen=self._defaults.gaps)
        self._last: float | None = None
        self.active = False

    def allowed_s(self) -> float:
        """Return the longest silence that is no stall, in seconds."""
        asked = self._defaults
        if len(self._gaps) < asked.history:
            return asked.shortest_s * asked.times_usual
        usual = asked.times_usual * median(self._gaps)
        return max(asked.shortest_s, usual, asked.times_longest * max(self._gaps))

    def is_silent(self, now: float) -> bool:
        """Return whether an alarm begins at `now`, without a point."""
        if self._last is None or self.active or now - self._last <= self._defaults.shortest_s:
            return False
        self.active = now - self._last > self.allowed_s()
        return self.active

    def note(self, time: float) -> bool:
        """Record the time of a point; return whether it ends a stall that was not detected while it lasted."""
        began = self.is_silent(time)
        stalled, self.active = self.active, False
        if self._last is not None and time > self._last and not stalled:
            self._gaps.append(time - self._last)
        if self._last is None or time > self._last:
            self._last = time
        return began

    def forget(self) -> None:
        """Forget the last point, because an attempt ended or began: the time in between is not a gap."""
        self._last = None
        self.active = False


@dataclass(frozen=True, slots=True)
class RankLagDefaults:
    """`times` is how many times longer a rank's steps take than those of the median rank."""

    window: int = 20
    every: int = 4
    times: float = 1.5
    evaluations: int = 5
    most_ranks: int = 256


class RankLag:
    """One rank's steps take longer than the others': its median is compared with the median of the other ranks'
    medians.

    Needs each rank's own time, without waiting for the others: with collectives, all ranks step at the same pace.
    """

    name = "rank-lag"
    severity: Severity = "warning"

    def __init__(self, defaults: RankLagDefaults | None = None) -> None:
        self._defaults = defaults or RankLagDefaults()
        self._ranks: dict[int, _Rank] = {}

    @property
    def lagging(self) -> list[str]:
        """Return the series of the ranks that lag."""
        return [each.series for each in self._ranks.values() if each.latch.active]

    def note(self, rank: int, point: Point) -> bool:
        """Record the time of a rank's step; return whether it begins to lag."""
        asked = self._defaults
        own = self._ranks.get(rank)
        if own is None:
            if len(self._ranks) >= asked.most_ranks:
                return False
            own = self._ranks[rank] = _Rank(point.series, deque(maxlen=asked.window), Latch(asked.evaluations))
        own.times.append(point.value)
        own.seen += 1
        # The median over a window changes little with each step.
        if own.seen < asked.window or own.seen % asked.every:
            return False
        own.usual = median(own.times)
        others = [each.usual for each in self._ranks.values() if each is not own and each.usual is not None]
        if others and own.usual > asked.times * median(others):
            return own.latch.bad(point.step, point.time)
        own.latch.good()
        return False


@dataclass(slots=True)
class _Rank:
    """The latest step times of a rank; `usual` is their median once there are enough."""

    series: str
    times: deque[float]
    latch: Latch
    seen: int = 0
    usual: float | None = None
