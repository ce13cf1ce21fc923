"""Usual ranges of the norms of layers, and the layer whose norm left its range first and stayed outside."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal, cast

Measure = Literal["weight", "gradient", "update"]
# The most direct measure first: grown weights are the fault itself, gradients and updates may be its consequence.
MEASURES: tuple[Measure, ...] = ("weight", "gradient", "update")
PREFIX = "layers/"
# The number of newest values that a norm keeps with their steps.
NEWEST = 4
# The standard deviation of a normal distribution in median absolute deviations (Rousseeuw and Croux, 1993).
SIGMA_PER_MAD = 1.4826


@dataclass(frozen=True, slots=True)
class LayerOrigin:
    """The origin of a fault: at `step`, the norm `measure` of `layer` was `times` its usual value, inf if it was not
    finite.
    """

    layer: str
    measure: Measure
    step: int
    times: float


@dataclass(frozen=True, slots=True)
class Growth:
    """The weights of the layer `origin.layer` are outside their usual range, which those of no other layer left before.

    Their norm was `value` at `origin.step`, and near its usual value at step `since`. It has been outside for
    `observations` observations, and the range is that of `usual` earlier ones. `by_updates`: updates of the observed
    size may have made it grow so much.
    """

    origin: LayerOrigin
    value: float
    since: int
    observations: int
    usual: int
    by_updates: bool


@dataclass(frozen=True, slots=True)
class OriginDefaults:
    """Thresholds for the usual range of a norm.

    A norm leaves its range if it has at least `history` values, and the newest is `times` the median of the last
    `window` values and `deviations` standard deviations of their logarithms above it. It returns after `back` values
    inside the range. If it stays outside for `accepted` values, these become its new usual range.

    A layer is named if its norm is `distinct` times as far outside as the median of the other layers at that step.
    """

    window: int = 32
    history: int = 5
    times: float = 3.0
    deviations: float = 8.0
    least_deviation: float = 0.03
    back: int = 2
    accepted: int = 20
    distinct: float = 2.0


class LayerNorms:
    """All norms of the layers of one run."""

    def __init__(self, defaults: OriginDefaults | None = None) -> None:
        self._defaults = defaults or OriginDefaults()
        # By measure and layer, in the order of the model.
        self._norms: dict[tuple[Measure, str], _Norm] = {}
        # The number of observations of the layers, and the step of the last one.
        self.observed = 0
        self._step: int | None = None

    def note(self, series: str, step: int, value: float) -> None:
        """Record a value of a series for which `is_layer_norm` is true."""
        if step != self._step:
            self._step = step
            self.observed += 1
        measure, _, layer = series.removeprefix(PREFIX).partition("/")
        key = cast(Measure, measure), layer
        norm = self._norms.get(key)
        if norm is None:
            norm = self._norms[key] = _Norm(self._defaults)
        norm.see(step, value)

    def turned(self) -> None:
        """Forget which norms are outside, and the usual sizes of updates, because a person changed the training."""
        for (measure, _), norm in self._norms.items():
            norm.forget(also_usual=measure == "update")

    def origin(self) -> LayerOrigin | None:
        """Return the layer whose norm left its usual range first and is still outside.

        None if there is none, or if most layers left it together, as after a change of the learning rate.
        """
        first = min((norm.left for norm in self._norms.values() if norm.left is not None), default=None)
        if first is None:
            return None
        return next(filter(None, (self._distinct(measure, first) for measure in MEASURES)), None)

    def growth(self, layer: str) -> Growth | None:
        """Return the growth of a layer's weights.

        None if they are in their usual range, if the weights of another layer left theirs first, or if those of most
        layers left it together.
        """
        norm = self._norms.get(("weight", layer))
        if norm is None or norm.left is None or norm.near is None:
            return None
        lefts = [each.left for (measure, _), each in self._norms.items() if measure == "weight"]
        origin = self._distinct("weight", min(left for left in lefts if left is not None))
        if origin is None or origin.layer != layer:
            return None
        value, (since, before) = norm.value_at_leaving, norm.near
        # Before a rollback, it may have been near it at a later step.
        since = min(since, norm.left)
        updates = self._norms.get(("update", layer))
        sizes = [] if updates is None else [size for step, size in updates.newest if step <= norm.left]
        # Without a measured update, nothing speaks against them.
        by_updates = not sizes or not value - before > (norm.left - since) * max(sizes)
        return Growth(origin, value, since, norm.observed_outside, norm.observed_usual, by_updates)

    def is_outside(self, measure: Measure, layer: str) -> bool:
        """Return whether a norm of a layer is outside its usual range."""
        norm = self._norms.get((measure, layer))
        return norm is not None and norm.left is not None

    def _distinct(self, measure: Measure, step: int) -> LayerOrigin | None:
        """Return the layer that is distinct among those that left their range at `step`."""
        norms = {layer: norm for (other, layer), norm in self._norms.items() if other == measure}
        first = {layer: norm.times for layer, norm in norms.items() if norm.left == step}
        if not first:
            return None
        most = max(first.values())
        # Backpropagation carries a gradient that is not finite to all earlier layers, so the last such layer is the
        # origin.
        layer = [layer for layer, times in first.items() if times == most][-1]
        others = [norm.times_at(step) for other, norm in norms.items() if other != layer]
        if others and most < self._defaults.distinct * _middle(others):
            return None
        return None if others and math.isinf(_middle(others)) else LayerOrigin(layer, measure, step, most)


class _Norm:
    """One norm of one layer: its usual range, and the step at which it left the range."""

    __slots__ = ("_asked", "_outside", "_seen", "_times", "_usual", "_within", "left", "near", "newest", "times")

    def __init__(self, asked: OriginDefaults) -> None:
        self._asked = asked
        # Logarithms of the values.
        self._usual: deque[float] = deque(maxlen=asked.window)
        self._outside: list[float] = []
        self._within = 0
        # The newest value divided by its usual one, and its step.
        self._times, self._seen = 1.0, 0
        # The newest values with their steps, and the newest value that was near the usual one.
        self.newest: deque[tuple[int, float]] = deque(maxlen=NEWEST)
        self.near: tuple[int, float] | None = None
        # The step at which it left its usual range, and how far outside it was then.
        self.left: int | None = None
        self.times = 1.0

    def see(self, step: int, value: float) -> None:
        if value == 0.0:
            return  # a layer that took no part in this step
        times, is_near = self._beside_usual(value)
        self._times, self._seen = times, step
        self.newest.append((step, value))
        if times > 1.0:
            self._note_outside(step, value, times)
        else:
            self._usual.append(math.log(value))
            if is_near:
                self.near = step, value
            self._within += 1
            if self._within >= self._asked.back:
                self.forget(also_usual=False)

    @property
    def observed_outside(self) -> int:
        """The number of its values outside the range since it left it."""
        return len(self._outside)

    @property
    def observed_usual(self) -> int:
        """The number of values of which its usual range is made."""
        return len(self._usual)

    @property
    def value_at_leaving(self) -> float:
        """The first of these values, NaN if there is none."""
        return self._outside[0] if self._outside else math.nan

    def times_at(self, step: int) -> float:
        """Return how many times its usual value the norm was at a step, 1 if it was inside its range or is unknown."""
        if self.left == step:
            return self.times
        return self._times if self._seen == step else 1.0

    def forget(self, also_usual: bool) -> None:
        self._outside.clear()
        self.left, self.times = None, 1.0
        if also_usual:
            self._usual.clear()

    def _beside_usual(self, value: float) -> tuple[float, bool]:
        """Return the value divided by the usual one if it is outside the range, otherwise 1, and whether it is near the
        usual one: within the noise, and within half of the range on a logarithmic scale.
        """
        if not math.isfinite(value):
            return math.inf, False
        if len(self._usual) < self._asked.history:
            return 1.0, True
        middle = median(self._usual)
        deviation = SIGMA_PER_MAD * median(abs(each - middle) for each in self._usual)
        above = math.log(value) - middle
        noise = self._asked.deviations * max(deviation, self._asked.least_deviation)
        limit = max(math.log(self._asked.times), noise)
        return math.exp(min(above, 700.0)) if above > limit else 1.0, above <= min(noise, limit / 2)

    def _note_outside(self, step: int, value: float, times: float) -> None:
        self._within = 0
        if self.left is None:
            self.left, self.times = step, times
        self._outside.append(value)
        if len(self._outside) >= self._asked.accepted:
            self.near = step, value
            finite = [math.log(each) for each in self._outside if math.isfinite(each)]
            self.forget(also_usual=True)
            self._usual.extend(finite)


def is_layer_norm(series: str) -> bool:
    """Return whether a series is a norm of a layer, as `run.watch_layers` names them."""
    measure, between, layer = series.removeprefix(PREFIX).partition("/")
    return series.startswith(PREFIX) and measure in MEASURES and bool(between and layer)


def _middle(values: Iterable[float]) -> float:
    return median(values)
