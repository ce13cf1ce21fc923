"""An unlogged cyclic learning rate makes a loss rise and fall: which rises the cycles explain, and which not."""

from __future__ import annotations

import math
import random

import pytest

from bench.support.generated_curves import healthy_cycles
from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Alarm, Point
from tests.alerts.detectors.scenes import judged, losses, mixed, points

# The loss of `losses` falls from 4 to about 0.5.
FALL = 3.5


def lifted(begins: int, part: float, ends: int = 1000, length: int = 1000) -> list[Point]:
    """Return a loss that goes back by a fraction of its fall from step `begins` to `ends`."""
    values = losses(length)
    return points(loss + part * FALL * (begins <= step < ends) for step, loss in enumerate(values, 1))


def of_kind(detector: str, alarms: list[Alarm]) -> list[Alarm]:
    return [alarm for alarm in alarms if alarm.detector == detector]


def test_cycles_of_any_shape_are_well_from_the_first_on():
    found = [judged(Point(*each) for each in healthy_cycles(random.Random(seed)).points()) for seed in range(60)]
    assert sum(map(len, found)) <= 3


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_a_restart_lifts_a_loss_near_zero_by_many_times_within_steps_and_is_no_spike(noise: float):
    """The square of a weight under SGD, summed over curvatures, with a rate that restarts twice."""
    draw, curvatures = random.Random(3), [10 ** (-each / 10) for each in range(30)]
    squares, given = [1.0] * 30, []
    for step in range(900):
        rate = 0.005 + 0.5 * (1 + math.cos(math.pi * (step % 300) / 300))
        squares = [
            square * (1 - rate * curved) ** 2 + 0.05 * rate**2 * curved
            for square, curved in zip(squares, curvatures, strict=True)
        ]
        loss = sum(curved * square for curved, square in zip(curvatures, squares, strict=True)) / 2
        given.append(loss * math.exp(draw.gauss(0, noise)))
    assert max(given[300:320]) > 10 * min(given[280:300])
    assert not judged(points(given))


@pytest.mark.parametrize("begins", [300, 700])
def test_a_loss_that_goes_back_to_near_its_start_is_told_at_once(begins: int):
    (alarm,) = of_kind("divergence", judged(lifted(begins, 0.8)))
    assert begins <= alarm.step <= begins + 50


def test_a_lower_rise_is_told_once_it_lasted_as_long_as_the_curve_before_it():
    (alarm,) = of_kind("divergence", judged(lifted(300, 0.3)))
    assert 550 <= alarm.step <= 650
    assert not judged(lifted(300, 0.3, ends=500))


def test_a_lower_rise_is_told_at_once_where_the_rate_is_logged_and_stands():
    rates = points([1e-3] * 1000, "lr")
    (alarm,) = of_kind("divergence", judged(mixed(rates, lifted(300, 0.3))))
    assert 300 <= alarm.step <= 350


@pytest.mark.parametrize("length", [2, 5, 10])
def test_a_low_spike_is_told_when_it_is_over(length: int):
    given = points(loss - 0.4 + 1.0 * (600 <= step < 600 + length) for step, loss in enumerate(losses(1000), 1))
    judge = Judge()
    assert not judged(given[: 599 + length], judge)
    (alarm,) = judged(given[599 + length : 605 + length], judge)
    assert (alarm.detector, alarm.severity, alarm.step) == ("spike", "warning", 600)
    assert not judged(given[605 + length :], judge)


def test_spikes_are_found_after_a_restart_that_looked_like_one():
    values = [loss + 1.5 * (step >= 500) for step, loss in enumerate(losses(900, noise=0.02), 1)]
    values[700:704] = [30.0] * 4
    (alarm,) = of_kind("spike", judged(points(values)))
    assert alarm.step == 701
