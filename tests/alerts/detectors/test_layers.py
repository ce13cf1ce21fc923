"""The layer where a fault began: norms of layers together with losses that go wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.kinds import is_reward, is_validation, kind_of
from runs.alerts.detectors.points import Alarm, Point
from runs.alerts.layers.origin import LayerNorms, LayerOrigin

LAYERS = ("stem", "body.0", "body.1", "body.2", "head")
# Maps measure, layer and value of a norm to a changed value.
Change = Callable[[str, str, float], float]


def unchanged(measure: str, layer: str, value: float) -> float:
    return value


class Training:
    """A healthy training of five layers, observed every 50 steps, until it is changed."""

    def __init__(self) -> None:
        self.judge = Judge()
        self.step = 0
        self.alarms: list[Alarm] = []
        self._draw = random.Random(7)

    def log(self, series: str, value: float) -> None:
        self.alarms += self.judge.judge(Point(series, self.step, self.step / 10, value))

    def train(self, steps: int, change: Change = unchanged, loss: float | None = None) -> None:
        for _ in range(steps):
            self.step += 1
            self.log(
                "train/loss", (0.5 + 2 / (1 + self.step / 50) if loss is None else loss) + self._draw.gauss(0, 0.02)
            )
            if self.step % 50 == 0:
                for place, layer in enumerate(LAYERS, 1):
                    for measure, usual in (("gradient", 0.3), ("update", 0.01), ("weight", 9.0)):
                        noise = 0.0 if measure == "weight" else self._draw.gauss(0, 0.15)
                        value = usual * place * math.exp(noise)
                        self.log(f"layers/{measure}/{layer}", change(measure, layer, value))


def grows(measure: str, layer: str, by: float) -> Change:
    return lambda other, name, value: value * by if (other, name) == (measure, layer) else value


def with_consequence(measure: str, layer: str, value: float) -> float:
    """The consequences elsewhere are larger than the fault itself."""
    return value * {("weight", "stem"): 4.0, ("gradient", "head"): 300.0}.get((measure, layer), 1.0)


def passed_back(measure: str, layer: str, value: float) -> float:
    """Backpropagation carries it to the layers before the one where it began."""
    return math.nan if measure == "gradient" and layer in LAYERS[:2] else value


@pytest.mark.parametrize(
    ("change", "origin"),
    [
        (grows("gradient", "body.1", 8.0), ("body.1", "gradient")),
        (grows("weight", "head", 4.0), ("head", "weight")),
        (grows("update", "stem", 30.0), ("stem", "update")),
        (with_consequence, ("stem", "weight")),
        (passed_back, ("body.0", "gradient")),
    ],
    ids=["gradient", "weight", "update", "consequence", "not finite"],
)  # fmt: skip
def test_an_alarm_names_the_layer_that_left_its_range_first(change: Change, origin: tuple[str, str]) -> None:
    training = Training()
    training.train(1000)
    training.train(50, change)
    training.train(5, change, loss=math.nan)
    (alarm,) = training.alarms
    assert alarm.detector == "non-finite" and alarm.origin is not None
    assert (alarm.origin.layer, alarm.origin.measure, alarm.origin.step) == (*origin, 1050)


def test_the_first_of_several_is_named_with_its_factor() -> None:
    training = Training()
    training.train(1000)
    training.train(50, grows("gradient", "body.2", 8.0))
    training.train(100, lambda measure, layer, value: value * (60.0 if measure == "gradient" else 1.0))
    training.train(400, loss=6.0)
    (alarm,) = [each for each in training.alarms if each.detector in ("spike", "divergence")][:1]
    assert isinstance(alarm.origin, LayerOrigin)
    assert (alarm.origin.layer, alarm.origin.step) == ("body.2", 1050) and alarm.origin.times == pytest.approx(
        8, rel=0.6
    )


@pytest.mark.parametrize(
    "change",
    [
        unchanged,
        lambda measure, layer, value: value * 100 if measure == "update" else value,
        lambda measure, layer, value: math.nan,
        lambda measure, layer, value: value / 100,
    ],
    ids=["none left", "a larger learning rate", "all are not finite", "smaller ones"],
)
def test_no_layer_is_named_where_none_stands_out(change: Change) -> None:
    training = Training()
    training.train(1000)
    training.train(50, change)
    training.train(5, change, loss=math.nan)
    assert [(each.detector, each.origin) for each in training.alarms] == [("non-finite", None)]


@pytest.mark.parametrize(
    ("change", "severity"),
    [(grows("weight", "stem", 8.0), "warning"), (grows("gradient", "stem", 8.0), "info"), (unchanged, "info")],
    ids=["weights stay", "a gradient passes", "a bad batch"],
)
def test_a_single_outlier_is_a_fault_once_the_weights_of_a_layer_have_grown(change: Change, severity: str) -> None:
    training = Training()
    training.train(1000)
    training.train(50, change)
    training.train(1, change, loss=8.0)
    training.train(10, change)
    (alarm,) = training.alarms
    assert (alarm.detector, alarm.step, alarm.severity) == ("spike", 1051, severity)
    # One that is better than an untrained model has otherwise no alert at all.
    small = Training()
    small.train(2000)
    small.train(50, change)
    small.train(1, change, loss=2.25)
    small.train(10, change)
    assert [(each.step, each.severity) for each in small.alarms] == [(2051, "warning")] * (severity == "warning")


def test_healthy_layers_are_never_outside_their_range() -> None:
    training = Training()
    for _ in range(200):
        training.train(50)
        assert training.judge.origin() is None
    assert training.alarms == []


def test_what_came_back_and_what_a_person_turned_is_no_cause() -> None:
    training = Training()
    training.train(1000)
    training.train(50, grows("gradient", "head", 20.0))
    assert training.judge.origin() is not None
    training.train(100)
    assert training.judge.origin() is None
    training.train(50, grows("update", "head", 20.0))
    training.judge.turned()
    training.train(300, grows("update", "head", 20.0))
    assert training.judge.origin() is None


def test_a_norm_that_stays_has_a_new_usual_range() -> None:
    norms = LayerNorms()
    for step in range(20):
        norms.note("layers/weight/head", step, 1.0)
    for step in range(20, 60):
        norms.note("layers/weight/head", step, 5.0)
    assert norms.origin() is None


def test_norms_of_layers_are_judged_as_nothing_else_whatever_the_layer_is_called() -> None:
    for layer in ("loss", "critic.reward", "val_head", "lr_adapter"):
        for measure in ("gradient", "update", "weight"):
            series = f"layers/{measure}/{layer}"
            assert kind_of(series) == "layer" and not is_reward(series) and not is_validation(series)
    assert kind_of("layers/3/loss") == "loss" and kind_of("layers/gradient/") == "gradient"
    training = Training()
    for training.step in range(200):
        training.log("layers/gradient/loss", math.nan if training.step > 100 else 1.0 + 50 * (training.step == 90))
    assert training.alarms == []
