"""Detectors of a loss, or of a score turned into one, that is not finite, diverges, or does not fall.

Each class names its source. A deviation must exceed two thresholds: one from the noise of this curve, and one from the
progress of the curve so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from runs.alerts.detectors.curve import Curve, coarse_noise_of, fall_of, noise_of, returned_rise_of
from runs.alerts.detectors.kinds import is_validation
from runs.alerts.detectors.latch import Latch, Latched
from runs.alerts.detectors.points import Severity
from runs.alerts.detectors.seen import Seen


@dataclass(frozen=True, slots=True)
class NonFiniteDefaults:
    """The scaler of mixed precision makes single gradient norms infinite on purpose, so these need several values."""

    points: int = 1
    points_of_gradients: int = 5
    cleared_by: int = 20


class NonFinite:
    """NaN or infinite. One such value is enough: in IEEE 754, arithmetic does not make it finite again."""

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
class DivergenceDefaults:
    """Thresholds: `of_best` is a fraction of the best level, `of_fall` of the fall from the start to the best.

    A loss that rose by less than `of_best_at_once` of its best level must stay there for `slow_blocks`. If no learning
    rate is logged, and it rose by less than `of_fall_at_once` of the fall, it must stay there for the fraction `cycle`
    of the curve. The rise must be `beyond_returned` times the largest earlier rise from which the curve returned.

    If a schedule changes the learning rate, the best level is that of the blocks with at least the current rate
    divided by `like_rate`; if rates are logged rarely, a rise waits `wait_for_rate` points for the next one.
    """

    history: int = 16
    blocks: int = 3
    noise_blocks: int = 24
    deviations: float = 6.0
    of_best: float = 0.4
    of_fall: float = 0.15
    of_best_score: float = 0.25
    of_fall_of_scores: float = 0.35
    of_fall_of_validation: float = 0.3
    sudden: float = 2.0
    slow_blocks: int = 8
    of_best_at_once: float = 0.7
    of_fall_at_once: float = 0.6
    cycle: float = 0.5
    beyond_returned: float = 1.5
    like_rate: float = 1.5
    wait_for_rate: int = 64
    cleared_by: int = 3


class Divergence(Latched):
    """The level has risen above the best one, and stays there: Page's test (1954) on blocks of the curve.

    The rise since the lowest level, which is Page's statistic, is compared with the noise of the levels around their
    trend, and with the progress of the curve. Three blocks must agree, or two if the rise is twice the threshold.

    The level at which a loss settles grows with the learning rate, because noisier gradients move the weights more
    (Mandt, Hoffman and Blei, *Stochastic Gradient Descent as Approximate Bayesian Inference*, 2017). In a warm-up, in a
    cycle or after a restart, the loss is therefore compared with its level at a similar rate, not with its best at a
    lower one.
    """

    name = "divergence"
    severity: Severity = "critical"

    def __init__(self, defaults: DivergenceDefaults | None = None) -> None:
        self._defaults = defaults or DivergenceDefaults()
        self._latch = Latch()
        self._limit = 0.0
        self._quiet = 0
        # The number of points for which a rise has waited for a new learning rate.
        self._waited = 0
        # The last steps of the newest blocks, as far as they are known.
        self._ends: list[int] = []
        self._blocks = 0
        # The first step after the last block that was not above half of the threshold; None if it is unknown.
        self.onset: int | None = None

    @property
    def settled(self) -> int:
        """The step up to which a usual divergence would have been found by now, 0 if it is unknown."""
        blocks = self._defaults.blocks
        return self._ends[-1 - blocks] if len(self._ends) > blocks else 0

    def see(self, seen: Seen) -> bool:
        asked, curve = self._defaults, seen.curve
        if seen.closed:
            self._note_end(seen)
        if len(curve.levels) < asked.history or not (seen.closed or self._waited):
            return False
        if self._latch.active:
            self._quiet = self._quiet + 1 if curve.levels[-1] < self._limit else 0
            if self._quiet >= asked.cleared_by:
                self._latch.good()
            return False
        waited, self._waited = self._waited, 0
        if not self._has_risen(seen, curve.best):
            return False
        if not math.isnan(seen.rate):
            # If rates are logged rarely, a restart may not have been logged yet.
            if not seen.rate_is_new and waited < asked.wait_for_rate:
                self._waited = waited + 1
                return False
            best = curve.best_at(seen.rate / asked.like_rate, before=asked.blocks)
            if best is None or not self._has_risen(seen, best):
                return False
        self._quiet = 0
        self.onset = self._onset(curve)
        return self._latch.bad(seen.step, seen.time)

    def _note_end(self, seen: Seen) -> None:
        self._ends.append(max([seen.step, *self._ends[-1:]]))
        before, self._blocks = self._blocks, len(seen.curve.levels)
        if self._blocks <= before:
            # Two neighbouring blocks have become one, which ends with the second.
            self._ends = self._ends[::-2][::-1]

    def _onset(self, curve: Curve) -> int | None:
        """Return the first step of the blocks that have stayed above half of the threshold up to now."""
        pairs = zip(reversed(curve.levels), reversed(self._ends), strict=False)
        return next((end + 1 for level, end in pairs if level <= self._limit), None)

    def _has_risen(self, seen: Seen, best: float) -> bool:
        """Return whether the level is above `best` by all thresholds; remember the rises from which it returned."""
        asked, curve = self._defaults, seen.curve
        of_best = asked.of_best_score if seen.kind == "score" else asked.of_best
        needed = seen.width * max(of_best * abs(best), self._of_fall(seen) * fall_of(curve))
        tail = curve.levels[-asked.blocks :]
        rise = min(tail[1:]) - best
        if rise <= needed:
            return False
        noise = coarse_noise_of(curve.levels[-asked.noise_blocks - asked.blocks : -asked.blocks])
        needed = max(needed, asked.deviations * seen.width * noise)
        needed = max(needed, asked.beyond_returned * returned_rise_of(curve.levels[: -asked.blocks]))
        # If blocks are single points, two neighbouring outliers are possible.
        sudden = curve.block_points > 1 and rise > asked.sudden * needed
        if min(tail) - best <= needed and not sudden:
            return False
        # A rise through a cycle or a restart of a learning rate that is not logged does not last.
        slow = seen.kind != "score" and rise < asked.of_best_at_once * abs(best)
        if slow and min(curve.levels[-asked.slow_blocks :]) - best <= needed:
            return False
        cycle = curve.levels[-int(asked.cycle * len(curve.levels)) :]
        if self._may_be_cycle(seen, rise) and min(cycle) - best <= needed:
            return False
        self._limit = best + needed / 2
        return True

    def _may_be_cycle(self, seen: Seen, rise: float) -> bool:
        """Return whether an unlogged learning rate may have caused a rise that is a small part of the fall."""
        if seen.kind == "score" or not math.isnan(seen.logged_rate):
            return False
        return rise < self._defaults.of_fall_at_once * fall_of(seen.curve)

    def _of_fall(self, seen: Seen) -> float:
        if seen.kind == "score":
            return self._defaults.of_fall_of_scores
        # A smaller rise while training improves is overfitting.
        return self._defaults.of_fall_of_validation if is_validation(seen.series) else self._defaults.of_fall


@dataclass(frozen=True, slots=True)
class PlateauDefaults:
    """`remaining` is a fraction of the loss at the start: a curve that fell below it has learnt, and may be flat."""

    points: int = 400
    blocks: int = 48
    every: int = 8
    remaining: float = 0.7
    deviations: float = 0.5
    of_level: float = 0.005
    cleared_at: float = 3.0


class Plateau(Latched):
    """No improvement beyond the noise in the latter half of the curve, while the loss is still near its start.

    The trend is the median of the slopes between all pairs (Theil, 1950; Sen, 1968). A curve that diverges has that
    alert, and is never a plateau.
    """

    name = "plateau"
    severity: Severity = "info"

    def __init__(self, divergence: Divergence, defaults: PlateauDefaults | None = None) -> None:
        self._defaults = defaults or PlateauDefaults()
        self._divergence = divergence
        self._latch = Latch(2)

    def see(self, seen: Seen) -> bool:
        asked, curve = self._defaults, seen.curve
        blocks = len(curve.levels)
        if not seen.closed or curve.count < asked.points or blocks < asked.blocks or blocks % asked.every:
            return False
        if not self._divergence.active and self._is_flat(curve, seen) and seen.width == 1.0:
            return self._latch.bad(seen.step, seen.time)
        self._latch.good()
        return False

    def _is_flat(self, curve: Curve, seen: Seen) -> bool:
        asked = self._defaults
        half = curve.levels[len(curve.levels) // 2 :]
        level, start = median(half), curve.start
        if seen.kind == "score":
            # With its sign changed, a score from 0 to 1 is between -1 and 0; the distance to 1 is its loss.
            level, start = 1 + level, 1 + start
        if start <= 0 or level < asked.remaining * start or (seen.kind == "score" and start > 1):
            return False
        slopes = [
            (later - earlier) / (at - since) for (since, earlier), (at, later) in combinations(enumerate(half), 2)
        ]
        improvement = -median(slopes) * len(half)
        allowed = max(asked.deviations * noise_of(half), asked.of_level * level)
        # An active plateau lasts until the curve clearly falls.
        return improvement < (asked.cleared_at * allowed if self.active else allowed)
