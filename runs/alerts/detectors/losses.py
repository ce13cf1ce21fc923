"""Detectors of what a loss does, or a score turned into one: not finite, spikes, diverges, or never falls.

Each source is named in its class. All thresholds need both: a deviation beyond the noise of this very curve, and one
that matters beside how far the curve has come.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from runs.alerts.detectors.curve import Curve, coarse_noise_of, deviation_of, noise_of
from runs.alerts.detectors.kinds import is_validation
from runs.alerts.detectors.latch import Latch, Latched
from runs.alerts.detectors.points import Severity
from runs.alerts.detectors.seen import Seen


@dataclass(frozen=True, slots=True)
class NonFiniteDefaults:
    """A mixed precision's scaler makes the norm of single gradients infinite, on purpose: these need several."""

    points: int = 1
    points_of_gradients: int = 5
    cleared_by: int = 20


class NonFinite:
    """NaN or infinite. IEEE 754: such values never become finite again by arithmetic, so one is enough."""

    name = "non-finite"
    severity: Severity = "critical"

    def __init__(self, gradient: bool = False, defaults: NonFiniteDefaults | None = None) -> None:
        self._defaults = defaults or NonFiniteDefaults()
        self._needed = self._defaults.points_of_gradients if gradient else self._defaults.points
        self._bad = 0
        self._good = 0
        self.active = False

    def see(self, seen: Seen) -> bool:
        if math.isfinite(seen.value):
            self._bad = 0
            self._good += 1
            if self.active and self._good >= self._defaults.cleared_by:
                self.active = False
            return False
        self._good = 0
        self._bad += 1
        if self.active or self._bad < self._needed:
            return False
        self.active = True
        return True


@dataclass(frozen=True, slots=True)
class SpikeDefaults:
    """A value of `ratio` times the window's median is a spike.

    So is one of `ratio_at_start` times it that is back where the curve began, after `history_at_start` points and with
    twice the deviation. Of logarithms a value above the curve's start needs `log_deviations_at_start`. `of_fall` is the
    part of the way from the curve's start to its best, `beyond_outliers` of the curve's own outliers.
    """

    window: int = 50
    history: int = 20
    history_at_start: int = 150
    deviations: float = 10.0
    deviations_at_start: float = 20.0
    log_deviations: float = 6.0
    log_deviations_at_start: float = 4.5
    ratio: float = 4.0
    ratio_at_start: float = 2.0
    of_fall: float = 0.1
    beyond_outliers: float = 2.0
    cleared_by: int = 5


class Spike(Latched):
    """A value far above the last 50: a robust z by the median absolute deviation (Iglewicz and Hoaglin, 1993).

    Losses are positive and their noise grows with them, so that the same is asked of their logarithm. Heavy tails are
    judged by the curve's own outliers: a spike exceeds the second greatest in a quarter of the curve by half, one that
    is no more than back at the start the greatest in half of it.
    """

    name = "spike"
    severity: Severity = "warning"

    def __init__(self, defaults: SpikeDefaults | None = None) -> None:
        self._defaults = defaults or SpikeDefaults()
        self._window: deque[float] = deque()
        self._ordered: list[float] = []
        self._latch = Latch()
        self._quiet = 0

    def see(self, seen: Seen) -> bool:
        value, ordered = seen.loss, self._ordered
        began = False
        if len(ordered) >= self._defaults.history:
            # What is not among the greatest of the window is none, and need not be measured.
            if value > ordered[-2] and self._is_spike(value, seen):
                self._quiet = 0
                began = self._latch.bad(seen.step, seen.time)
            elif self._latch.active:
                self._quiet += 1
                if self._quiet >= self._defaults.cleared_by:
                    self._latch.good()
        insort(ordered, value)
        self._window.append(value)
        if len(ordered) > self._defaults.window:
            del ordered[bisect_left(ordered, self._window.popleft())]
        return began

    def _is_spike(self, value: float, seen: Seen) -> bool:
        asked, width = self._defaults, seen.width
        middle, deviation = deviation_of(self._ordered)
        excess = value - middle
        if excess < asked.deviations * width * deviation or excess < (asked.ratio_at_start - 1) * abs(middle):
            return False
        curve = seen.curve
        if excess < asked.of_fall * width * fall_of(curve):
            return False
        # Of losses near zero the logarithm has a wide spread.
        if self._ordered[0] > 0:
            log_middle, log_deviation = deviation_of([math.log(each) for each in self._ordered])
            needed = asked.log_deviations if value < curve.start else asked.log_deviations_at_start
            if math.log(value) - log_middle < needed * width * log_deviation:
                return False
        # The newest block may hold this value already.
        tops = curve.tops[:-1]
        outlier = sorted(tops[-max(2, len(tops) // 4) :])[-2]
        if excess < (asked.ratio - 1) * abs(middle):
            # Healthy batches now and then have two or three times the usual loss. Where they do, others did before.
            if value < curve.start or excess < asked.deviations_at_start * width * deviation:
                return False
            if curve.count < asked.history_at_start:
                return False
            outlier = max(tops[len(tops) // 2 :])
        return excess > asked.beyond_outliers * width * (outlier - middle)


@dataclass(frozen=True, slots=True)
class DivergenceDefaults:
    """`of_best` is a part of the best level itself, `of_fall` of the way from the start to the best."""

    history: int = 16
    blocks: int = 3
    noise_blocks: int = 24
    deviations: float = 6.0
    of_best: float = 0.3
    of_fall: float = 0.15
    of_best_score: float = 0.25
    of_fall_of_scores: float = 0.35
    of_fall_of_validation: float = 0.3
    sudden: float = 2.0
    cleared_by: int = 3


class Divergence(Latched):
    """The level has risen above the best one, and stays there: Page's test (1954) in blocks of the curve.

    The rise since the lowest level, which is Page's statistic, is compared with the noise of the levels around their
    own trend, and with how far the curve has come. Three blocks must agree, two where the rise is twice what is asked.
    """

    name = "divergence"
    severity: Severity = "critical"

    def __init__(self, defaults: DivergenceDefaults | None = None) -> None:
        self._defaults = defaults or DivergenceDefaults()
        self._latch = Latch()
        self._limit = 0.0
        self._quiet = 0

    def see(self, seen: Seen) -> bool:
        asked, curve = self._defaults, seen.curve
        if not seen.closed or len(curve.levels) < asked.history:
            return False
        if self._latch.active:
            self._quiet = self._quiet + 1 if curve.levels[-1] < self._limit else 0
            if self._quiet >= asked.cleared_by:
                self._latch.good()
            return False
        best = curve.best
        of_best = asked.of_best_score if seen.kind == "score" else asked.of_best
        needed = seen.width * max(of_best * abs(best), self._of_fall(seen) * fall_of(curve))
        tail = curve.levels[-asked.blocks :]
        rise = min(tail[1:]) - best
        if rise <= needed:
            return False
        noise = coarse_noise_of(curve.levels[-asked.noise_blocks - asked.blocks : -asked.blocks])
        needed = max(needed, asked.deviations * seen.width * noise)
        # Where blocks are single points, two outliers may be neighbours.
        sudden = curve.block_points > 1 and rise > asked.sudden * needed
        if min(tail) - best <= needed and not sudden:
            return False
        self._limit = best + needed / 2
        self._quiet = 0
        return self._latch.bad(seen.step, seen.time)

    def _of_fall(self, seen: Seen) -> float:
        if seen.kind == "score":
            return self._defaults.of_fall_of_scores
        # What rises by less, while training goes well, is overfitting.
        return self._defaults.of_fall_of_validation if is_validation(seen.series) else self._defaults.of_fall


@dataclass(frozen=True, slots=True)
class PlateauDefaults:
    """`remaining` is the part of the loss at the start: a curve that came below it has learnt, and may be flat."""

    points: int = 400
    blocks: int = 48
    every: int = 8
    remaining: float = 0.7
    deviations: float = 0.5
    of_level: float = 0.005
    cleared_at: float = 3.0


class Plateau(Latched):
    """No improvement beyond the noise in the latter half of the curve, though the loss is still near its start.

    The trend is the median of the slopes between all pairs (Theil, 1950; Sen, 1968).
    """

    name = "plateau"
    severity: Severity = "info"

    def __init__(self, defaults: PlateauDefaults | None = None) -> None:
        self._defaults = defaults or PlateauDefaults()
        self._latch = Latch(2)

    def see(self, seen: Seen) -> bool:
        asked, curve = self._defaults, seen.curve
        blocks = len(curve.levels)
        if not seen.closed or curve.count < asked.points or blocks < asked.blocks or blocks % asked.every:
            return False
        if self._is_flat(curve, seen) and seen.width == 1.0:
            return self._latch.bad(seen.step, seen.time)
        self._latch.good()
        return False

    def _is_flat(self, curve: Curve, seen: Seen) -> bool:
        asked = self._defaults
        half = curve.levels[len(curve.levels) // 2 :]
        level, start = median(half), curve.start
        if seen.kind == "score":
            # Turned round, a score from 0 to 1 is -1 to 0: what is missing to 1 is its loss.
            level, start = 1 + level, 1 + start
        if start <= 0 or level < asked.remaining * start or (seen.kind == "score" and start > 1):
            return False
        slopes = [
            (later - earlier) / (at - since) for (since, earlier), (at, later) in combinations(enumerate(half), 2)
        ]
        improvement = -median(slopes) * len(half)
        allowed = max(asked.deviations * noise_of(half), asked.of_level * level)
        # What is flat goes on to be until it falls clearly.
        return improvement < (asked.cleared_at * allowed if self.active else allowed)


def fall_of(curve: Curve) -> float:
    """Return how far a curve has come from its start to its best level, 0 where it never fell."""
    return max(0.0, curve.start - curve.best)
