"""The input and output of detectors, and the number of points per second that they get."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from runs.alerts.layers.origin import LayerOrigin

Severity = Literal["info", "warning", "critical"]
MOST_PER_SECOND = 50


class Point(NamedTuple):
    """A value of a series; `time` in seconds since the epoch. The value may be NaN or infinite."""

    series: str
    step: int
    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm begins: `detector` found a fault in `series`, first at `step`.

    `value` is the value at that step if it began before the newest point. `onset` is the step at which the fault began
    if it took several blocks of the curve to find it. `origin` is the layer whose norms left their usual range first,
    if the training watches its layers.
    """

    detector: str
    series: str
    step: int
    severity: Severity
    value: float | None = None
    onset: int | None = None
    origin: LayerOrigin | None = None


def thinned(points: Iterable[Point], most: int = MOST_PER_SECOND) -> Iterator[Point]:
    """Yield at most `most` points of each series per second, and of the others the least, the greatest and all that are
    not finite.

    Points must be ordered by time. The least and greatest follow when their second has ended.
    """
    seconds: dict[str, _Second] = {}
    for point in points:
        second, number = seconds.get(point.series), math.floor(point.time)
        if second is None or second.number != number:
            if second is not None:
                yield from second.extremes()
            second = seconds[point.series] = _Second(number)
        if second.taken < most or not math.isfinite(point.value):
            second.taken += 1
            yield point
        else:
            second.put_off(point)
    for second in seconds.values():
        yield from second.extremes()


def shown(columns: Sequence[Sequence[float]], most: int = MOST_PER_SECOND) -> list[int]:
    """Return the indices of points of one second that `thinned` may yield; it drops the others.

    Each of `columns` is a series, and all were logged together. This avoids an object for each value of a burst.
    """
    number = len(columns[0]) if columns else 0
    if number <= 2 * most or not all(math.isfinite(sum(column)) for column in columns):
        return list(range(number))
    found = set(range(most))
    for column in columns:
        rest = column[most:]
        found |= {most + rest.index(min(rest)), most + rest.index(max(rest))}
    return sorted(found)


class _Second:
    """The number of points yielded of one series and second, and the least and greatest of the others."""

    __slots__ = ("greatest", "least", "number", "taken")

    def __init__(self, number: int) -> None:
        self.number = number
        self.taken = 0
        self.least: Point | None = None
        self.greatest: Point | None = None

    def put_off(self, point: Point) -> None:
        if self.least is None or point.value < self.least.value:
            self.least = point
        if self.greatest is None or point.value > self.greatest.value:
            self.greatest = point

    def extremes(self) -> list[Point]:
        found = {id(each): each for each in (self.least, self.greatest) if each is not None}
        return sorted(found.values(), key=lambda point: point.time)
