"""The state of a series that a detector gets with the newest point, and the interface of every detector."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from runs.alerts.detectors.curve import Curve
from runs.alerts.detectors.kinds import Kind
from runs.alerts.detectors.points import Point, Severity

# Only these have a curve; the others rise and fall without a trend.
CURVED = frozenset({"loss", "free_loss", "score", "speed", "duration"})


class Seen:
    """A series up to its newest point.

    `loss` is the newest value, with its sign changed if more is better; `curve` has all finite values in this form.
    `closed` is true if the newest point completed a block of the curve. `width` widens the tolerances: it is 1, and
    more for a while after a change by a person or a schedule. `rate` is the learning rate if a schedule changes it, NaN
    if it is unknown or constant; `logged_rate` includes constant rates. `rate_is_new` is true if it was logged since
    the previous point. `weights_grew` returns whether the weights of a layer have left their usual range.
    """

    __slots__ = (
        "closed", "curve", "kind", "logged_rate", "loss", "points", "rate", "rate_is_new", "series", "step", "time",
        "value", "weights_grew", "width",
    )  # fmt: skip

    def __init__(self, series: str, kind: Kind) -> None:
        self.series = series
        self.kind = kind
        self.curve = Curve()
        self.points = 0
        self.closed = False
        self.width = 1.0
        self.rate = self.logged_rate = math.nan
        self.rate_is_new = False
        self.weights_grew: Callable[[], bool] = lambda: False
        self.step = 0
        self.time = self.value = self.loss = 0.0

    def take(self, point: Point) -> bool:
        """Add the newest point; return whether its value is finite."""
        self.points += 1
        self.step, self.time, self.value = point.step, point.time, point.value
        finite = math.isfinite(point.value)
        if finite and self.kind in CURVED:
            self.loss = -point.value if self.kind == "score" else point.value
            self.closed = self.curve.add(self.loss, self.logged_rate)
        return finite


class SeriesDetector(Protocol):
    """Judges one series. `active` is true while its alarm lasts."""

    name: str
    severity: Severity

    @property
    def active(self) -> bool: ...

    def see(self, seen: Seen) -> bool:
        """Judge the newest point; return whether an alarm begins with it."""
        ...
