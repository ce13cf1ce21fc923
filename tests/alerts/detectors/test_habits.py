"""What healthy trainings of some kinds do, and would be faults elsewhere."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from runs.alerts.detectors.points import Alarm
from tests.alerts.detectors.scenes import judged, mixed, names, points


def kinds(alarms: Sequence[Alarm]) -> set[str]:
    return set(names(alarms))


def falling(draw: random.Random, count: int = 4000) -> list[float]:
    return [(0.3 + 2 / (1 + step / 400)) * math.exp(draw.gauss(0, 0.05)) for step in range(count)]


def cycle(step: int, length: int = 1000) -> float:
    """Return where a cosine schedule with restarts stands: 1 at a restart, then down to 0."""
    return (1 + math.cos(math.pi * (step % length) / length)) / 2


@pytest.mark.parametrize("seed", range(3))
def test_a_loss_that_rises_with_the_learning_rate_is_no_divergence(seed):
    losses = falling(random.Random(seed))
    raised = [loss * (1 + 0.7 * cycle(step) * (step >= 1000)) for step, loss in enumerate(losses)]
    rates = [1e-3 * cycle(step) for step in range(len(losses))]
    assert kinds(judged(mixed(points(raised, "train/loss"), points(rates, "optimizer/learning_rate")))) == set()
    # Without the rate nobody can tell why it rises.
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
