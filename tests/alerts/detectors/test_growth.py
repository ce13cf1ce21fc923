"""Weights of a layer that grew: norms recorded from trainings, and norms made for one question each."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from bench.support.curve_files import HEALTHY, LAYERS, Curve, read_curves
from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Alarm, Point

NAME = "weight-growth"
RECORDED = read_curves(LAYERS)
EVERY = 10


def judged(curve: Curve, judge: Judge) -> Iterator[tuple[int, Alarm]]:
    """Yield the alarms of a recorded training, each with the step at which it began."""
    turned = list(curve.turned)
    for series, step, time, value in curve.points():
        if turned and step >= turned[0]:
            turned.pop(0)
            judge.turned()
        yield from ((step, alarm) for alarm in judge.judge(Point(series, step, time, value)))
    assert not judge.messages


def named(curves: list[Curve]) -> list[object]:
    return [pytest.param(curve, id=curve.name) for curve in curves]


@pytest.mark.parametrize("curve", named([each for each in RECORDED if each.kind != HEALTHY]))
def test_a_layer_that_grew_by_a_fault_is_found_and_named(curve: Curve) -> None:
    assert curve.begins is not None
    ((at, alarm),) = list(judged(curve, Judge()))
    layer = curve.name.partition(":")[2]
    assert (alarm.detector, alarm.series, alarm.severity) == (NAME, f"layers/weight/{layer}", "warning")
    assert alarm.origin is not None and (alarm.origin.layer, alarm.origin.measure) == (layer, "weight")
    # A checkpoint from before `onset` is from before the fault, or from its first two steps if the layer grows slowly.
    assert alarm.onset is not None and alarm.onset <= curve.begins + 2 and curve.begins <= alarm.step <= at
    assert curve.begins - alarm.onset <= 25 + EVERY and at - curve.begins <= 25 + 5 * EVERY


@pytest.mark.parametrize("curve", named([each for each in RECORDED if each.kind == HEALTHY]))
def test_no_alarm_in_a_healthy_training(curve: Curve) -> None:
    assert list(judged(curve, Judge())) == []


def test_enough_trainings_of_both_kinds_are_recorded() -> None:
    kinds = [each.kind == HEALTHY for each in RECORDED]
    assert kinds.count(True) >= 12 and kinds.count(False) >= 16


class Layers:
    """Three layers with constant norms, observed every 10 steps; the update of each has the norm `update`."""

    def __init__(self, update: float = 0.001) -> None:
        self.judge = Judge()
        self.step = 0
        self._update = update

    def observe(self, times: int, **weights: float) -> list[Alarm]:
        """Return the alarms of so many observations; `weights` are the norms of layers that are not 1."""
        found: list[Alarm] = []
        for _ in range(times):
            self.step += EVERY
            for measure, usual in (("weight", 1.0), ("gradient", 0.3), ("update", self._update)):
                for layer in ("first", "middle", "last"):
                    value = weights.get(layer, usual) if measure == "weight" else usual
                    point = Point(f"layers/{measure}/{layer}", self.step, self.step / 10, value)
                    found += self.judge.judge(point)
        return found


def test_growth_that_no_update_explains_is_found_at_the_second_observation() -> None:
    layers = Layers(update=0.05)
    assert layers.observe(20) == [] and layers.observe(1, middle=4.0) == []
    (alarm,) = layers.observe(1, middle=4.0)
    assert (alarm.series, alarm.step, alarm.onset, alarm.value) == ("layers/weight/middle", 210, 200, 4.0)
    assert layers.observe(10, middle=4.0) == []


def test_growth_by_large_updates_must_last_for_four() -> None:
    layers = Layers(update=0.5)
    layers.observe(20)
    assert layers.observe(3, middle=4.0) == []
    (alarm,) = layers.observe(1, middle=4.0)
    assert (alarm.step, alarm.onset) == (210, 200)


def test_weights_that_come_back_are_no_fault_and_end_an_alarm() -> None:
    layers = Layers()
    layers.observe(20)
    for _ in range(5):
        assert layers.observe(1, middle=9.0) + layers.observe(2) == []
    assert len(layers.observe(2, middle=9.0)) == 1
    assert layers.judge.active == [(NAME, "layers/weight/middle")]
    layers.observe(2)
    assert layers.judge.active == []
    assert len(layers.observe(2, middle=9.0)) == 1


def test_one_cause_is_one_alarm_and_layers_that_grow_together_are_none() -> None:
    layers = Layers()
    layers.observe(20)
    layers.observe(1, first=9.0)
    assert [each.series for each in layers.observe(10, first=9.0, last=30.0)] == ["layers/weight/first"]
    together = Layers()
    together.observe(20)
    assert together.observe(15, first=9.0, middle=8.0, last=10.0) == []


def test_a_changed_knob_neither_ends_an_alarm_nor_hides_where_the_fault_began() -> None:
    layers = Layers()
    layers.observe(20)
    layers.observe(1, last=9.0)
    layers.judge.turned()
    (alarm,) = layers.observe(2, last=9.0)
    assert (alarm.step, alarm.onset) == (220, 200)
    layers.judge.turned()
    assert layers.judge.active == [(NAME, "layers/weight/last")] and layers.observe(3, last=9.0) == []


@pytest.mark.parametrize(("after", "again"), [(1.0, 0), (9.0, 1)], ids=["cured", "rolled back to grown weights"])
def test_a_rollback_ends_the_alarm_and_a_fault_that_lasts_begins_again(after: float, again: int) -> None:
    layers = Layers()
    layers.observe(20)
    assert len(layers.observe(2, last=9.0)) == 1
    layers.judge.rolled_back({})
    assert layers.judge.active == []
    layers.step = 150
    found = layers.observe(2, last=after)
    # A checkpoint that a rule uses next is from before the step of the rollback.
    assert [(each.detector, each.step, each.onset) for each in found] == [(NAME, 160, 160)] * again


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_weights_that_are_not_finite_are_a_matter_of_the_loss(value: float) -> None:
    layers = Layers()
    layers.observe(20)
    assert layers.observe(30, middle=value) == [] and not layers.judge.messages


def test_weights_that_start_near_zero_have_no_usual_range_at_first() -> None:
    layers = Layers()
    assert layers.observe(3, middle=1e-6) + layers.observe(30) == []
