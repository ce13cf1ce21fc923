"""Spikes: values far above the last ones. A value that returns at once is distinguished from one that stays."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from statistics import median

from runs.alerts.detectors.curve import deviation_of, fall_of
from runs.alerts.detectors.latch import Latch, Latched
from runs.alerts.detectors.points import Severity
from runs.alerts.detectors.seen import Seen

# Of the curve before a resume. The newest may be of points after it.
LATEST_LEVELS = 8


@dataclass(frozen=True, slots=True)
class SpikeDefaults:
    """Thresholds: a value of `ratio` times the window's median is a spike.

    So is a value of `ratio_at_start` times the median that is back at the start of the curve, after `history_at_start`
    points and with twice the deviation. In logarithms, a value above the curve's start needs `log_deviations_at_start`.
    `of_fall` is a fraction of the fall from the curve's start to its best, `beyond_outliers` a multiple of the curve's
    own outliers.

    A warning requires that the weights of a layer have left their usual range, or a second value within `returns`
    points that is above the median by `confirmed_by` of the threshold. It requires more values, up to `most_signs`,
    while that many independent outliers of this curve would coincide more than `chance` times. If no learning rate is
    logged, and the values are less than `of_fall_at_once` of the fall above the median, the warning waits until they
    are over, and is dropped if there were more than `most_together`.

    If a training resumes with a curve of at least `history_of_resume` points, two of its first values, `returns` points
    apart at most, that are `of_fall_at_once` of the fall above the latest levels are a warning at once: a training that
    was resumed wrongly may soon learn again what it has lost.

    An outlier that came back is reported if the curve has `history_of_tail` points, and the outlier is
    `isolated_of_start` times the curve's start, `beyond_isolated` times the greatest that came back before, and
    `beyond_tail` times the greatest value in the latter half of the curve; the last two are counted from the median.
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
    returns: int = 2
    confirmed_by: float = 0.7
    chance: float = 0.01
    most_signs: int = 6
    of_fall_at_once: float = 0.6
    most_together: int = 20
    history_of_resume: int = 100
    history_of_tail: int = 150
    isolated_of_start: float = 1.0
    beyond_isolated: float = 2.0
    beyond_tail: float = 6.0
    cleared_by: int = 5


@dataclass(slots=True)
class Outlier:
    """A value far above those before it, at `step`. `loss` is the value, with its sign changed if more is better.

    `middle` is the median of the window, `limit` the threshold above it, `tail` the greatest loss in the latter half of
    the curve. `signs` counts the outliers since, including this one, and `later` the points since the last of them.
    """

    step: int
    value: float
    loss: float
    middle: float
    limit: float
    tail: float
    signs: int = 1
    later: int = 0

    @property
    def excess(self) -> float:
        return self.loss - self.middle


class Spike(Latched):
    """A value far above the last 50: a robust z-score by the median absolute deviation (Iglewicz and Hoaglin, 1993).

    The noise of a positive loss grows with the loss, so its logarithm has to exceed a threshold too. Curves with heavy
    tails are compared with their own outliers: a spike exceeds the second greatest in a quarter of the curve by half.
    If it is only back at the start of the curve, it exceeds the greatest in half of the curve by half.

    Heavy tails make single outliers, and a fault makes several together, so a warning requires two. A single outlier
    that returns at once has severity info, and only if its loss is worse than that of an untrained model, as with a
    batch of broken data. But if the weights of a layer have grown out of their usual range, it is a warning: a batch is
    over, and such weights stay.
    """

    name = "spike"

    def __init__(self, defaults: SpikeDefaults | None = None) -> None:
        self._defaults = defaults or SpikeDefaults()
        self._window: deque[float] = deque()
        self._ordered: list[float] = []
        self._latch = Latch()
        self._quiet = 0
        self._waiting: Outlier | None = None
        self._first_after_resume: Outlier | None = None
        # How far the greatest value was above its median that came back at once.
        self._isolated = 0.0
        # The number of outliers that returned.
        self._returned = 0
        # The severity and the outlier of the last alarm.
        self.severity: Severity = "warning"
        self.outlier: Outlier | None = None

    def see(self, seen: Seen) -> bool:
        value, ordered = seen.loss, self._ordered
        began = False
        if len(ordered) >= self._defaults.history:
            # A value that is not among the greatest of the window is no outlier, so the costly part is skipped.
            found = self._outlier(seen) if value > ordered[-2] else None
            if self._waiting is not None:
                began = self._decided(self._waiting, seen)
            elif self._latch.active:
                self._lasts(found is not None)
            else:
                self._waiting = found
        elif seen.points - len(ordered) > self._defaults.history_of_resume and not self._latch.active:
            began = self._resumed_wrongly(seen)
        insort(ordered, value)
        self._window.append(value)
        if len(ordered) > self._defaults.window:
            del ordered[bisect_left(ordered, self._window.popleft())]
        return began

    def _resumed_wrongly(self, seen: Seen) -> bool:
        """Judge one of the first values after a resume; return whether an alarm begins."""
        asked, curve = self._defaults, seen.curve
        level, limit = median(curve.levels[-LATEST_LEVELS:]), asked.of_fall_at_once * fall_of(curve)
        if seen.loss - level <= limit:
            return False
        first = self._first_after_resume
        self._first_after_resume = Outlier(seen.step, seen.value, seen.loss, level, limit, level)
        return first is not None and len(self._ordered) <= asked.returns and self._begin("warning", first, seen)

    def _lasts(self, is_outlier: bool) -> None:
        """Take a value while an alarm is active: several values that are no outliers end it."""
        self._quiet = 0 if is_outlier else self._quiet + 1
        if self._quiet >= self._defaults.cleared_by:
            self._latch.good()

    def _decided(self, waiting: Outlier, seen: Seen) -> bool:
        """Decide from the newest value whether the waiting outlier was a spike; return whether an alarm begins."""
        asked = self._defaults
        waiting.later += 1
        if seen.loss - waiting.middle > asked.confirmed_by * waiting.limit:
            waiting.signs, waiting.later = waiting.signs + 1, 0
            if waiting.signs >= self._signs_needed(seen.curve.count) and not self._may_be_restart(waiting, seen):
                return self._begin("warning", waiting, seen)
            if waiting.signs >= asked.window:
                # It stays at this level, so it is not a spike.
                self._waiting = None
        if waiting.later < asked.returns:
            return False
        self._waiting = None
        if waiting.signs >= self._signs_needed(seen.curve.count):
            return waiting.signs <= asked.most_together and self._begin("warning", waiting, seen)
        if seen.weights_grew():
            return self._begin("warning", waiting, seen)
        self._returned += waiting.signs
        before, self._isolated = self._isolated, max(self._isolated, waiting.excess)
        if seen.curve.count < asked.history_of_tail or waiting.excess <= asked.beyond_isolated * before:
            return False
        if waiting.excess <= asked.beyond_tail * (waiting.tail - waiting.middle):
            return False
        if waiting.loss <= asked.isolated_of_start * abs(seen.curve.start):
            return False
        return self._begin("info", waiting, seen)

    def _may_be_restart(self, waiting: Outlier, seen: Seen) -> bool:
        """Return whether an unlogged learning rate may have risen.

        A restart lifts the loss to at most a part of its start, and keeps it there.
        """
        return math.isnan(seen.logged_rate) and waiting.excess < self._defaults.of_fall_at_once * fall_of(seen.curve)

    def _signs_needed(self, count: int) -> int:
        """Return how many outliers close together are not chance, given how often this curve has single ones."""
        asked = self._defaults
        needed, expected = 1, float(self._returned)
        while needed < 2 or (expected > asked.chance and needed < asked.most_signs):
            expected *= asked.returns * self._returned / count
            needed += 1
        return needed

    def _begin(self, severity: Severity, outlier: Outlier, seen: Seen) -> bool:
        self.severity, self.outlier = severity, outlier
        self._waiting = None
        self._quiet = 0
        return self._latch.bad(seen.step, seen.time)

    def _outlier(self, seen: Seen) -> Outlier | None:
        """Return the newest value if it is an outlier."""
        asked, width, curve, value = self._defaults, seen.width, seen.curve, seen.loss
        middle, deviation = deviation_of(self._ordered)
        excess = value - middle
        limit = max(
            asked.deviations * width * deviation,
            (asked.ratio_at_start - 1) * abs(middle),
            asked.of_fall * width * fall_of(curve),
        )
        if excess < limit:
            return None
        # The logarithms of losses near zero have a wide spread.
        if self._ordered[0] > 0:
            log_middle, log_deviation = deviation_of([math.log(each) for each in self._ordered])
            needed = asked.log_deviations if value < curve.start else asked.log_deviations_at_start
            if math.log(value) - log_middle < needed * width * log_deviation:
                return None
        # The newest block may contain this value already.
        tops = curve.tops[:-1]
        outlier, tail = sorted(tops[-max(2, len(tops) // 4) :])[-2], max(tops[len(tops) // 2 :])
        if excess < (asked.ratio - 1) * abs(middle):
            # Batches of healthy trainings sometimes have two or three times the usual loss. Earlier batches had it then
            # too.
            if value < curve.start or excess < asked.deviations_at_start * width * deviation:
                return None
            if curve.count < asked.history_at_start:
                return None
            outlier = tail
        limit = max(limit, asked.beyond_outliers * width * (outlier - middle))
        return Outlier(seen.step, seen.value, value, middle, limit, tail) if excess > limit else None
