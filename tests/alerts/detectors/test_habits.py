"""Healthy behaviour of some trainings that would be a fault in others."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from runs.alerts.detectors.points import Alarm
from tests.alerts.detectors.scenes import judged, mixed, names, points

Wave = Callable[[float], float]


def kinds(alarms: Sequence[Alarm]) -> set[str]:
    return set(names(alarms))


def falling(draw: random.Random, count: int = 4000) -> list[float]:
    return [(0.3 + 2 / (1 + step / 400)) * math.exp(draw.gauss(0, 0.05)) for step in range(count)]


def cycle(step: int, length: int = 1000) -> float:
    """Return the value of a cosine schedule with restarts: 1 at a restart, then falling to 0."""
    return (1 + math.cos(math.pi * (step % length) / length)) / 2


@pytest.mark.parametrize("seed", range(3))
def test_a_loss_that_rises_with_the_learning_rate_is_no_divergence(seed):
    losses = falling(random.Random(seed))
    raised = [loss * (1 + 1.1 * cycle(step) * (step >= 1000)) for step, loss in enumerate(losses)]
    rates = [1e-3 * cycle(step) for step in range(len(losses))]
    assert kinds(judged(mixed(points(raised, "train/loss"), points(rates, "optimizer/learning_rate")))) == set()
    # Without the rate, the cause of the rise is unknown.
    assert "divergence" in kinds(judged(points(raised, "train/loss")))


def test_a_rate_that_rises_and_stays_excuses_a_loss_for_a_while_only():
    losses = falling(random.Random(1))
    rates = [1e-3 if step < 500 else 1e-4 if step < 2000 else 1e-3 for step in range(len(losses))]
    risen = [loss * (1.7 if step >= 2000 else 1.0) for step, loss in enumerate(losses)]
    found = judged(mixed(points(risen, "train/loss"), points(rates, "lr")))
    assert kinds(found) == {"divergence"}


@pytest.mark.parametrize("reward", ["rollout/ep_rew_mean", "episode_reward"])
def test_a_loss_of_an_agent_may_rise(reward):
    draw = random.Random(2)
    losses = [(0.05 + 0.3 * min(1, step / 1000)) * math.exp(draw.gauss(0, 0.4)) for step in range(2000)]
    rewards = [20 + 180 * (1 - math.exp(-step / 500)) + draw.gauss(0, 15) for step in range(2000)]
    assert kinds(judged(mixed(points(losses, "train/loss"), points(rewards, reward)))) == set()
    assert "divergence" in kinds(judged(points(losses, "train/loss")))


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_a_loss_that_falls_over_decades_is_no_spike(seed):
    draw = random.Random(seed)
    losses = [10 ** (-5 * step / 5000) * math.exp(draw.gauss(0, 0.3)) for step in range(5000)]
    assert kinds(judged(points(losses, "train/loss"))) == set()
    losses[3000] = 20.0
    assert kinds(judged(points(losses, "train/loss"))) == {"spike"}


def raised_by_rate(seed: int, wave: Wave) -> tuple[list[float], list[float]]:
    """Return the learning rates of a schedule, and a loss that settles up to three times higher at their peak."""
    draw = random.Random(seed)
    period, height, low = draw.uniform(400, 1500), draw.uniform(0.2, 2.0), draw.choice((0.0, 0.1))
    rates = [low + (1 - low) * wave(step / period % 1) for step in range(3000)]
    losses = [loss * (1 + height * rate) for loss, rate in zip(falling(draw, 3000), rates, strict=True)]
    return [1e-3 * rate for rate in rates], losses


WAVES: list[Wave] = [
    lambda part: (1 - math.cos(2 * math.pi * part)) / 2,
    lambda part: 1 - abs(2 * part - 1),
    lambda part: (1 + math.cos(math.pi * part)) / 2,
]


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize("wave", WAVES)
def test_a_loss_that_follows_cycles_of_a_logged_rate_is_well(wave, every):
    """From the first cycle on, however rarely the rate is logged."""
    found = []
    for seed in range(12):
        rates, losses = raised_by_rate(seed, wave)
        logged = points(rates, "optimizer/learning_rate")[::every]
        found += [alarm for alarm in judged(mixed(logged, points(losses))) if alarm.severity != "info"]
    assert len(found) <= 1


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize("wave", WAVES)
def test_a_divergence_within_a_cycle_is_found(wave, every):
    found = 0
    for seed in range(12):
        rates, losses = raised_by_rate(seed, wave)
        begins = 300 + 200 * seed
        losses[begins:] = [loss * min(30, math.exp(at / 60)) for at, loss in enumerate(losses[begins:])]
        alarms = judged(mixed(points(rates, "optimizer/learning_rate")[::every], points(losses)))
        found += any(alarm.detector == "divergence" and begins < alarm.step < begins + 500 for alarm in alarms)
    assert found >= 11


def test_a_rate_that_is_logged_no_more_holds_no_alarm_back_for_long():
    rates, losses = raised_by_rate(1, WAVES[2])
    losses[2000:] = [loss * min(30, math.exp(at / 60)) for at, loss in enumerate(losses[2000:])]
    found = judged(mixed(points(rates[:1500], "lr"), points(losses)))
    assert kinds(found) == {"divergence"} and found[0].step < 2400
