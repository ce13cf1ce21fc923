"""All detectors of one run: tolerances after a change, related series, and failures of a detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runs.alerts.detectors.assignment import GPU_IDLE, GPU_SERIES, RANK_SERIES, detectors_of
from runs.alerts.detectors.curve import Curve
from runs.alerts.detectors.growth import SERIES as WEIGHT_SERIES
from runs.alerts.detectors.growth import WeightGrowth
from runs.alerts.detectors.kinds import Goal, Kind, is_learning_rate, is_reward, is_validation, kind_of
from runs.alerts.detectors.limits import THRESHOLD, Limit, LimitDefaults, Memory, threshold
from runs.alerts.detectors.losses import Divergence, NonFinite, Plateau
from runs.alerts.detectors.overfitting import Overfitting
from runs.alerts.detectors.pace import RankLag, Stall
from runs.alerts.detectors.points import Alarm, Point
from runs.alerts.detectors.seen import Seen, SeriesDetector
from runs.alerts.detectors.spikes import Spike
from runs.alerts.layers.origin import LayerNorms, LayerOrigin


@dataclass(frozen=True, slots=True)
class ChangeDefaults:
    """After a change, bands are `width` times as wide for `points` points, or `part` of the curve so far.

    A learning rate that rises to `rate_rise` times its lowest of late is a change: a warm-up, a restart, a turned knob.
    One that had fallen before is a restart or a cycle, and bands are wide until it is back within `rate_rise` of that.
    One that rises at once to more than `rate_jump` times the highest before is neither, and no band widens.
    Samples of a GPU count while the training logged something within `running_s` seconds.
    """

    width: float = 3.0
    points: int = 30
    part: float = 0.1
    rate_rise: float = 1.5
    rate_jump: float = 3.0
    running_s: float = 30.0


# Detectors of faults that may originate in a layer.
BEGAN_IN_LAYER = frozenset({NonFinite.name, Spike.name, Divergence.name})
# Series of the machine and of its speed continue while a training goes back to an earlier step.
NOT_TRAINED = frozenset({"machine", "speed", "duration", "data_wait"})
# Rates fall to nothing and come near it again at the end of a cycle: a part of the rate that rises.
LEAST_VALLEY = 0.05


class Watched:
    """One series with its detectors."""

    __slots__ = (
        "detectors", "fell", "greatest_rate", "highest_rate", "is_rate", "lowest_rate", "rate", "rates_seen", "seen",
        "steady", "trains", "widened_until",
    )  # fmt: skip

    def __init__(self, seen: Seen, detectors: list[SeriesDetector]) -> None:
        self.seen = seen
        self.detectors = detectors
        self.widened_until = 0
        self.is_rate = is_learning_rate(seen.series)
        self.trains = seen.kind == "loss" and not is_validation(seen.series)
        self.lowest_rate = math.inf
        # Since the rate rose last, and of all.
        self.highest_rate = self.greatest_rate = 0.0
        # The newest rate, and how often it came in a row.
        self.rate = math.nan
        self.steady = 0
        # The number of logged rates when the newest point arrived.
        self.rates_seen = 0
        # Whether the learning rate has fallen: a later rise is then a cycle, not a warm-up.
        self.fell = False


class Judge:
    """Judges the points of one run. A detector that raises is switched off, and `messages` reports it.

    `goals` declare by name what is better in a series: "min" or "max". `thresholds` are limits that a person set, by
    series; `limit_by` changes them later.

    Points of several series may come in any order. Nothing here reads a clock.
    """

    def __init__(
        self,
        goals: Mapping[str, Goal] | None = None,
        thresholds: Mapping[str, LimitDefaults] | None = None,
        changes: ChangeDefaults | None = None,
    ) -> None:
        self._goals = dict(goals or {})
        self._limit_of: Callable[[str], LimitDefaults | None] = (thresholds or {}).get
        self._changes = changes or ChangeDefaults()
        self.messages: list[str] = []
        self._off: set[str] = set()
        self._series: dict[str, Watched] = {}
        self._stall = Stall()
        self._ranks = RankLag()
        self._memories: dict[str, Memory] = {}
        self._layers = LayerNorms()
        # Detectors of validation losses compare with the first training loss.
        self._overfitting: list[Overfitting] = []
        self._trained: str | None = None
        self._last: Point | None = None
        # Reinforcement learning: a falling loss does not show convergence there.
        self._rewarded = False
        # The lowest rate before the current cycle began, while the rate is above it.
        self._valley = 0.0
        self._cycled: Watched | None = None
        # The series with the greatest learning rate.
        self._scheduled: Watched | None = None
        # Whether it starts in the middle of a training, without the beginning of the curves.
        self._resumes = False

    def judge(self, point: Point) -> list[Alarm]:
        """Judge a point; return the alarms that begin with it."""
        watched = self._series.get(point.series)
        if watched is None:
            watched = self._series[point.series] = self._watch(point.series)
        seen = watched.seen
        began: list[Alarm] = []
        if seen.points and point.step < seen.step:
            self.resumed()
        if seen.kind != "machine":
            if self._ask(self._stall.name, self._stall.note, point.time):
                self._add(began, self._stall, self._last or point)
            self._last = point
        self._show_rate(watched)
        finite = seen.take(point)
        if seen.kind == "layer":
            self._layers.note(point.series, point.step, point.value)
        seen.width = self._changes.width if seen.points <= watched.widened_until or self._valley else 1.0
        # A GPU may be idle while the training is not stepping.
        runs = self._last is None or point.time - self._last.time <= self._changes.running_s
        is_usual = finite and runs
        for detector in watched.detectors:
            name = detector.name
            if name in self._off or not (
                is_usual or ((finite or isinstance(detector, NonFinite)) and (runs or name != GPU_IDLE))
            ):
                continue
            # As `_ask` does, without a call for each of the many points.
            try:
                if detector.see(seen):
                    self._add(began, detector, point)
            except Exception as error:  # any exception: a broken detector must not stop the others
                self._switch_off(name, error)
        if finite:
            self._note_elsewhere(watched, point, began)
        return began

    def declare(self, series: str, goal: Goal) -> None:
        """Declare that less ("min") or more ("max") of a series is better. The series starts anew if that changes."""
        if self._goals.get(series) == goal:
            return
        self._goals[series] = goal
        self._forget(series)

    def continues(self) -> None:
        """Declare that the coming points continue a training whose earlier points are unknown. Call before the first.

        Bands are wide at the beginning of each series, and a loss that had converged before is no plateau: see
        `remember`.
        """
        self._resumes = True

    def remember(self, series: str, curve: Curve) -> None:
        """Set the stored curve of earlier points of a series, without raising alarms.

        Call after `continues` and before the first point. With a known beginning, a plateau can be detected.
        """
        watched = self._series[series] = self._watch(series, begins_known=True)
        watched.seen.curve = curve
        watched.seen.points = curve.count
        watched.widened_until = curve.count + max(self._changes.points, int(self._changes.part * curve.count))

    def silent(self, now: float) -> list[Alarm]:
        """Return the alarm of a stall if one begins at `now`, by the clock of the points.

        Call about once per second.
        """
        began: list[Alarm] = []
        if self._last is not None and self._ask(self._stall.name, self._stall.is_silent, now):
            self._add(began, self._stall, self._last)
        return began

    def turned(self) -> None:
        """Widen the bands for a while, because a person set a knob or changed the training in another way."""
        for watched in self._series.values():
            points = watched.seen.points
            watched.widened_until = points + max(self._changes.points, int(self._changes.part * points))
        self._layers.turned()

    def origin(self) -> LayerOrigin | None:
        """Return the layer whose norms left their usual range first and are still outside; None if there is none."""
        return self._layers.origin()

    @property
    def settled(self) -> int | None:
        """The step up to which a fault of the training loss would have been found by now; None if there is no loss.

        Of several losses, that of the one that is logged most often.
        """
        if Divergence.name in self._off:
            return None
        losses = [each for watched in self._series.values() if watched.trains for each in watched.detectors]
        return max((each.settled for each in losses if isinstance(each, Divergence)), default=None)

    def _weights_grew(self) -> bool:
        origin = self.origin()
        return origin is not None and origin.measure == "weight"

    @property
    def layers_observed(self) -> int:
        """Return the number of observations of the layers so far."""
        return self._layers.observed

    def resumed(self) -> None:
        """Widen the bands, because a new attempt begins or steps are repeated; the time in between is not a stall."""
        self._stall.forget()
        self.turned()

    def rolled_back(self, curves: Mapping[str, Curve]) -> None:
        """The training continues from an earlier step, up to which the curves of its series were `curves`.

        All alarms of what was trained end, and its series begin again with these curves, as after a resume.
        """
        self._series = {name: each for name, each in self._series.items() if each.seen.kind in NOT_TRAINED}
        self._overfitting, self._trained = [], None
        self._valley, self._cycled, self._scheduled = 0.0, None, None
        self.continues()
        for series, curve in curves.items():
            self.remember(series, curve)
        self.resumed()

    def limit_by(self, limit_of: Callable[[str], LimitDefaults | None]) -> None:
        """Use `limit_of(series)` for the limits that a person set. An unchanged limit keeps its count."""
        self._limit_of = limit_of
        for series, watched in self._series.items():
            asked = limit_of(series)
            held = next((each for each in watched.detectors if each.name == THRESHOLD), None)
            if asked != (held.asked if isinstance(held, Limit) else None):
                watched.detectors = [each for each in watched.detectors if each is not held]
                watched.detectors += [] if asked is None else [threshold(asked)]

    @property
    def active(self) -> list[tuple[str, str]]:
        """Return the current alarms, as pairs of detector and series."""
        found = [
            (each.name, series) for series, watched in self._series.items() for each in watched.detectors if each.active
        ]
        lagging = [(self._ranks.name, series) for series in self._ranks.lagging]
        stalled = [(self._stall.name, self._last.series)] if self._stall.active and self._last is not None else []
        return [each for each in (*found, *lagging, *stalled) if each[0] not in self._off]

    def _watch(self, series: str, begins_known: bool = False) -> Watched:
        if not self._rewarded and is_reward(series):
            self._reward()
        seen = Seen(series, self._kind_of(series))
        seen.weights_grew = self._weights_grew
        detectors = detectors_of(seen)
        if seen.kind == "layer" and series.startswith(WEIGHT_SERIES):
            detectors.append(WeightGrowth(self._layers, series.removeprefix(WEIGHT_SERIES)))
        asked = self._limit_of(series)
        if asked is not None:
            detectors.append(threshold(asked))
        gpu = GPU_SERIES.match(series)
        if gpu and gpu["what"] == "memory_used_mib":
            detectors.append(self._memories.setdefault(gpu["gpu"], Memory()))
        self._overfitting += [each for each in detectors if isinstance(each, Overfitting)]
        if self._resumes and not begins_known:
            detectors = [each for each in detectors if not isinstance(each, Plateau)]
        watched = Watched(seen, detectors)
        watched.widened_until = self._changes.points if self._resumes else 0
        return watched

    def _kind_of(self, series: str) -> Kind:
        kind = kind_of(series, self._goals.get(series))
        is_free = kind == "loss" and self._rewarded and series not in self._goals
        return "free_loss" if is_free else kind

    def _reward(self) -> None:
        """Restart the losses without a goal as those of reinforcement learning, because a reward was logged."""
        self._rewarded = True
        for series, watched in list(self._series.items()):
            if watched.seen.kind == "loss" and series not in self._goals:
                self._forget(series)

    def _forget(self, series: str) -> None:
        known = self._series.pop(series, None)
        if known is not None:
            self._overfitting = [each for each in self._overfitting if each not in known.detectors]
            self._trained = None if self._trained == series else self._trained

    def _note_elsewhere(self, watched: Watched, point: Point, began: list[Alarm]) -> None:
        """Pass a point to the detectors that compare series."""
        if watched.is_rate:
            self._note_rate(watched, point.value)
        elif watched.trains:
            self._trained = self._trained or point.series
            if point.series == self._trained:
                for each in self._overfitting:
                    each.note_training(point.value)
        elif watched.seen.kind == "machine":
            gpu = GPU_SERIES.match(point.series)
            if gpu and gpu["what"] == "memory_total_mib":
                self._memories.setdefault(gpu["gpu"], Memory()).note_total(point.value)
        elif watched.seen.kind == "duration":
            rank = RANK_SERIES.search(point.series)
            if rank and self._ask(self._ranks.name, self._ranks.note, int(rank[1]), point):
                self._add(began, self._ranks, point)

    def _note_rate(self, watched: Watched, rate: float) -> None:
        """Record a learning rate. If there are several, the first that rises indicates a cycle."""
        rise, low = self._changes.rate_rise, watched.lowest_rate
        jumps = 0 < self._changes.rate_jump * watched.greatest_rate < rate
        watched.greatest_rate = max(watched.greatest_rate, rate)
        if jumps and watched.seen.points > self._changes.points:
            watched.lowest_rate = watched.highest_rate = rate
        elif 0 < rise * low < rate or low == 0 < rate:
            self.turned()
            if not self._valley and watched.fell:
                self._valley, self._cycled = max(low, rate * LEAST_VALLEY), watched
            watched.lowest_rate = watched.highest_rate = rate
        watched.lowest_rate = min(watched.lowest_rate, rate)
        watched.highest_rate = max(watched.highest_rate, rate)
        watched.fell = watched.fell or rise * watched.lowest_rate < watched.highest_rate
        watched.steady = watched.steady + 1 if rate == watched.rate else 0
        watched.rate = rate
        if self._scheduled is None or watched.highest_rate > self._scheduled.highest_rate:
            self._scheduled = watched
        if watched is self._cycled and (self._stands(watched) or rate <= rise * self._valley):
            self._valley = 0.0

    def _show_rate(self, watched: Watched) -> None:
        """Set the learning rate of a series before its next point."""
        scheduled, seen = self._scheduled, watched.seen
        if scheduled is None:
            return
        seen.logged_rate = scheduled.rate
        seen.rate = math.nan if self._stands(scheduled) else scheduled.rate
        seen.rate_is_new = watched.rates_seen != scheduled.seen.points
        watched.rates_seen = scheduled.seen.points

    def _stands(self, watched: Watched) -> bool:
        """Return whether a learning rate stays constant: it was set, and is not part of a cycle."""
        return watched.steady > max(self._changes.points, int(self._changes.part * watched.seen.points))

    def _add(self, began: list[Alarm], detector: SeriesDetector | Stall | RankLag, point: Point) -> None:
        growth = detector.growth if isinstance(detector, WeightGrowth) else None
        if growth is not None:
            at = growth.origin.step
            began.append(
                Alarm(detector.name, point.series, at, detector.severity, growth.value, growth.since, growth.origin)
            )
            return
        outlier = detector.outlier if isinstance(detector, Spike) else None
        step, value = (point.step, None) if outlier is None else (outlier.step, outlier.value)
        origin = self.origin() if detector.name in BEGAN_IN_LAYER else None
        onset = detector.onset if isinstance(detector, Divergence) else None
        began.append(Alarm(detector.name, point.series, step, detector.severity, value, onset, origin))

    def _ask(self, name: str, ask: Callable[..., bool], *shown: object) -> bool:
        """Return whether a detector raises an alarm; never raises an exception."""
        if name in self._off:
            return False
        try:
            return ask(*shown)
        except Exception as error:  # any exception: a broken detector must not stop the others
            self._switch_off(name, error)
            return False

    def _switch_off(self, name: str, error: Exception) -> None:
        self._off.add(name)
        self.messages.append(
            f"The detector {name} failed ({type(error).__name__}: {error}) and is switched off; the other detectors "
            "continue."
        )
