"""Each detector fires on its fault, once and soon, and clears."""

from __future__ import annotations

import math
import random

import pytest

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.limits import LimitDefaults
from tests.alerts.detectors.scenes import judged, losses, mixed, names, points


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("series", ["train/loss", "optimizer/learning_rate", "gpu/0/power_w", "anything"])
def test_a_value_that_is_not_finite_is_found_at_once(bad: float, series: str):
    (alarm,) = judged(points([1.0, 1.1, bad, bad, bad, 1.0, bad], series))
    assert (alarm.detector, alarm.series, alarm.step, alarm.severity) == ("non-finite", series, 3, "critical")


def test_single_infinite_norms_of_gradients_are_a_scalers_way():
    assert not judged(points([1.0, math.inf, math.inf, 1.0] * 30, "optimizer/gradient_norm"))
    assert names(judged(points([1.0, *[math.inf] * 30], "optimizer/gradient_norm"))) == ["non-finite"]


@pytest.mark.parametrize("seed", range(5))
def test_a_spike_is_found_within_three_points_and_once(seed: int):
    alarms = judged(points(losses(600, seed=seed, changed=lambda step: 10.0 if 400 <= step < 405 else 1.0)))
    assert names(alarms) == ["spike"] and 400 <= alarms[0].step <= 402


def test_a_learning_rate_that_jumps_far_above_all_before_widens_no_band():
    values = [*losses(400, noise=0.4), 8.0, 12.0, 7.0, 3.0, 2.0]
    rates = [0.003] * 400 + [0.3] * 5
    found = judged(mixed(points(rates, "optimizer/learning_rate"), points(values, "train/loss")))
    assert [(each.detector, each.step) for each in found] == [("spike", 401)]


def test_a_single_batch_that_is_worse_than_an_untrained_model_is_on_record():
    """Its alarm has the step and value of the outlier, although it begins once the curve is back."""
    values = losses(600, changed=lambda step: 30.0 if step == 400 else 1.0)
    judge = Judge()
    assert not judged(points(values[:401]), judge)
    (alarm,) = judged(points(values[401:], first=402), judge)
    assert (alarm.detector, alarm.step, alarm.severity, alarm.value) == ("spike", 400, "info", values[399])
    assert not judge.active


def test_outliers_that_come_more_closely_than_by_chance_are_a_warning():
    """In a curve whose single outliers are no longer reported."""
    factor = lambda step: 12.0 if step % 200 == 0 else 40.0 if 1810 <= step < 1816 else 1.0  # noqa: E731
    found = [each for each in judged(points(losses(2000, changed=factor))) if each.severity == "warning"]
    assert names(found) == ["spike"] and found[0].step == 1810


@pytest.mark.parametrize("length", [60, 600, 6000])
def test_divergence_is_found_within_five_per_cent_of_the_curve(length: int):
    begins = length // 2
    grown = lambda step: math.exp(min(4.0, max(0, step - begins) / (0.01 * length)))  # noqa: E731
    alarms = [each for each in judged(points(losses(length, changed=grown))) if each.detector == "divergence"]
    assert len(alarms) == 1 and begins <= alarms[0].step <= begins + max(3, 0.05 * length)


def test_an_accuracy_that_collapses_diverges():
    draw = random.Random(2)
    values = [min(1.0, (0.9 if step < 400 else 0.1) + draw.gauss(0, 0.03)) for step in range(600)]
    values[:50] = [0.1 + 0.8 * step / 50 for step in range(50)]
    assert names(judged(points(values, "accuracy")))[:1] == ["divergence"]


def test_a_declared_goal_tells_what_a_name_does_not():
    values = losses(600, changed=lambda step: 20.0 if step > 400 else 1.0)
    assert not judged(points(values, "phi"))
    assert "divergence" in names(judged(points(values, "phi"), Judge(goals={"phi": "min"})))


def test_a_loss_that_never_falls_is_a_plateau():
    draw = random.Random(3)
    assert names(judged(points([2.3 * math.exp(draw.gauss(0, 0.03)) for _ in range(1500)]))) == ["plateau"]


def test_overfitting_needs_a_training_loss_that_falls():
    draw = random.Random(4)
    rising = [
        (0.6 + 1.5 * math.exp(-epoch / 3) + 0.015 * max(0, epoch - 12)) + draw.gauss(0, 0.01) for epoch in range(50)
    ]
    training = [2 * math.exp(-epoch / 8) for epoch in range(50)]
    validation = points(rising, "validation_loss")
    found = judged(mixed(points(training, "train_loss"), validation))
    assert names(found)[:1] == ["overfitting"] and 12 < found[0].step < 32
    assert "overfitting" not in names(judged(mixed(points([1.0] * 50, "train_loss"), validation)))


def test_a_threshold_holds_on_any_series_and_clears_below():
    judge = Judge(thresholds={"queue": LimitDefaults(limit=10, clear_at=8)})
    found = judged(points([5, 11, 12, 9, 11, 7, 11, 20], "queue"), judge)
    assert [(each.detector, each.step) for each in found] == [("threshold", 2), ("threshold", 7)]


def test_a_silence_beyond_the_runs_own_pace_is_a_stall():
    judge = Judge()
    judged(points([1.0] * 100), judge)
    assert not judge.silent(10.0 + 59)
    (alarm,) = judge.silent(10.0 + 61)
    assert (alarm.detector, alarm.step) == ("stall", 100) and not judge.silent(10.0 + 62)
    assert judge.active == [("stall", "loss")]
    assert not judged(points([1.0] * 100, first=2000), judge) and not judge.active


def test_a_gap_that_nobody_watched_is_told_at_the_next_point():
    assert [(each.detector, each.step) for each in judged([*points([1.0] * 100), *points([1.0] * 9, first=9000)])] == [
        ("stall", 100)
    ]


@pytest.mark.parametrize(("series", "factor"), [("speed/samples_per_second", 0.3), ("speed/step_ms", 3.0)])
def test_a_training_that_slows_down_is_found(series: str, factor: float):
    draw = random.Random(5)
    values = [draw.gauss(100, 5) * (factor if step > 200 else 1) for step in range(1, 401)]
    (alarm,) = judged(points(values, series))
    assert alarm.detector == "throughput" and 201 <= alarm.step <= 240


def test_waiting_for_data_is_found_and_clears():
    waits = [*[0.1] * 100, *[0.9] * 100, *[0.1] * 100, *[0.9] * 100]
    found = judged(points(waits, "speed/data_wait_fraction"))
    assert [(each.detector, each.step // 100) for each in found] == [("data-bound", 1), ("data-bound", 3)]


@pytest.mark.parametrize(
    ("detector", "series", "well", "ill"),
    [
        ("gpu-idle", "gpu/0/utilisation", 90.0, 0.0),
        ("gpu-hot", "gpu/1/temperature_c", 75.0, 90.0),
        ("gpu-throttled", "gpu/0.1/throttle_reasons", 4.0, 64.0),
        ("gpu-memory", "gpu/0/memory_used_mib", 70_000.0, 79_900.0),
    ],
)
def test_a_gpu_that_is_not_well_is_found(detector: str, series: str, well: float, ill: float):
    total = points([80_000.0] * 400, "gpu/0/memory_total_mib", step_s=1.0)
    training = points(losses(400), step_s=1.0)
    sampled = points([well] * 150 + [ill] * 100 + [well] * 50 + [ill] * 100, series, step_s=1.0)
    found = judged(mixed(total, training, sampled))
    assert [(each.detector, each.series) for each in found] == [(detector, series)] * (
        1 if detector == "gpu-idle" else 2
    )
    assert 151 <= found[0].step <= 220


def test_the_gpu_of_a_training_that_logs_nothing_may_idle():
    training = points(losses(50), step_s=1.0)
    idle = points([0.0] * 200, "gpu/0/utilisation", first=40, step_s=1.0)
    assert not judged(mixed(training, points([90.0] * 39, "gpu/0/utilisation", step_s=1.0), idle[:90]))


def test_a_rank_that_lags_behind_the_others_is_named():
    draw = random.Random(6)
    ranks = [
        points(
            [draw.gauss(50, 3) * (2 if rank == 2 and step > 100 else 1) for step in range(300)], f"rank/{rank}/step_ms"
        )
        for rank in range(4)
    ]
    found = [each for each in judged(mixed(*ranks)) if each.detector == "rank-lag"]
    assert [each.series for each in found] == ["rank/2/step_ms"] and found[0].step < 160


@pytest.mark.parametrize("length", [300, 20_000])
def test_a_divergence_knows_where_it_began_and_how_far_the_loss_is_judged(length: int):
    begins, judge = int(0.6 * length), Judge()
    block = max(1, length // 64)
    given = points(losses(length, changed=lambda step: 1 + 40 * max(0.0, (step - begins) / length)), "train/loss")
    assert judge.settled is None
    for point in given:
        alarms = [each for each in judge.judge(point) if each.detector == "divergence"]
        if alarms:
            break
        if point.step > 10 and judge.settled:
            # Three blocks, and the one that is not complete yet.
            assert 3 <= point.step - judge.settled <= 4 * block + 3
    (alarm,) = alarms
    assert alarm.onset is not None and begins - 2 * block <= alarm.onset <= alarm.step - block
