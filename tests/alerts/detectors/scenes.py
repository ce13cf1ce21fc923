"""Series for detectors: generated from a seed, and judged at once."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Alarm, Point

STEP_S = 0.1


def points(values: Iterable[float], series: str = "loss", *, first: int = 1, step_s: float = STEP_S) -> list[Point]:
    return [Point(series, step, step * step_s, value) for step, value in enumerate(values, first)]


def judged(given: Iterable[Point], judge: Judge | None = None) -> list[Alarm]:
    """Return all alarms that begin while `given` is judged."""
    judge = judge or Judge()
    found = [alarm for point in given for alarm in judge.judge(point)]
    assert not judge.messages
    return found


def names(alarms: Sequence[Alarm]) -> list[str]:
    return [alarm.detector for alarm in alarms]


def mixed(*given: Iterable[Point]) -> list[Point]:
    """Return the points of several series ordered by time."""
    return sorted((point for each in given for point in each), key=lambda point: point.time)


def losses(
    length: int, *, noise: float = 0.05, seed: int = 1, changed: Callable[[int], float] = lambda step: 1.0
) -> list[float]:
    """A loss that falls from 4 to 0.5; `changed` returns the factor at each step from 1 on."""
    draw = random.Random(seed)
    return [
        (0.5 + 3.5 / (1 + step / (0.03 * length))) * math.exp(draw.gauss(0, noise)) * changed(step)
        for step in range(1, length + 1)
    ]
