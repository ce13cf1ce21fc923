"""The judge of a run: bounded state, alarms that clear, detectors that fail, and the number of points that it gets."""

from __future__ import annotations

import math
import pickle
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.alerts.detectors import spikes
from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.kinds import is_validation, kind_of
from runs.alerts.detectors.points import MOST_PER_SECOND, Point, thinned
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.redacted_records import SeriesNames
from steersman.records.kinds import PointRecord
from steersman.records.point_blocks import in_blocks
from tests.alerts.detectors.scenes import judged, losses, mixed, names, points
from trainer.alerts.judging import Batch, RunJudge


def test_state_does_not_grow_with_the_curve():
    def size(length: int) -> int:
        judge = Judge()
        series = (
            "train/loss",
            "validation_loss",
            "accuracy",
            "lr",
            "speed/step_ms",
            "rank/1/step_ms",
            "gpu/0/utilisation",
        )
        values = losses(length)
        judged(mixed(*(points(values, name) for name in series)), judge)
        return len(pickle.dumps(judge))

    assert size(20_000) < 1.1 * size(2_000)
    # pickle writes 9 bytes per number.
    assert size(20_000) / 7 < 500 * 9


def test_an_alarm_begins_once_clears_and_begins_again():
    high = lambda step: 12.0 if 300 <= step < 303 or 600 <= step < 603 else 1.0  # noqa: E731
    judge = Judge()
    given = points(losses(900, changed=high))
    assert names(judged(given[:301], judge)) == ["spike"] and judge.active == [("spike", "loss")]
    assert not judged(given[301:500], judge) and not judge.active
    assert names(judged(given[500:], judge)) == ["spike"]


def test_divergence_clears_where_the_loss_comes_back():
    judge = Judge()
    given = points(losses(1000, changed=lambda step: 30.0 if 400 <= step < 600 else 1.0))
    judged(given[:590], judge)
    assert ("divergence", "loss") in judge.active
    judged(given[590:], judge)
    assert ("divergence", "loss") not in judge.active


def test_a_curve_that_has_diverged_is_no_plateau_beside():
    """However flat it is at its high level, because the divergence is already reported."""
    exploded = [loss if step < 400 else 4000.0 + step % 7 for step, loss in enumerate(losses(3000))]
    judge = Judge()
    assert "plateau" not in names(judged(points(exploded), judge))
    assert judge.active == [("divergence", "loss")]


def test_a_detector_that_raises_is_switched_off_alone(monkeypatch: pytest.MonkeyPatch):
    def broken(self: object, seen: object) -> bool:
        raise ZeroDivisionError("of no use")

    monkeypatch.setattr(spikes.Spike, "see", broken)
    judge = Judge()
    found = [alarm for point in points([1.0, 2.0, math.nan]) for alarm in judge.judge(point)]
    assert names(found) == ["non-finite"]
    assert judge.messages == [
        "The detector spike failed (ZeroDivisionError: of no use) and is switched off; the other detectors continue."
    ]


def test_of_a_crowded_second_the_extremes_are_judged():
    second = [Point("loss", step, 10 + step / 1000, float(step % 7)) for step in range(1000)]
    second[600] = Point("loss", 600, 10.6, 99.0)
    second[700] = Point("loss", 700, 10.7, -5.0)
    second[800] = Point("loss", 800, 10.8, math.nan)
    kept = list(thinned([*second, Point("loss", 1000, 11.0, 1.0)]))
    assert [each.step for each in kept] == [*range(MOST_PER_SECOND), 800, 600, 700, 1000]


@given(st.integers(0, 2**32), st.sampled_from([0.001, 0.004, 0.3]), st.integers(1, 3))
def test_records_of_a_burst_that_are_left_out_early_change_nothing(seed, step_s, batches):
    generator = random.Random(seed)
    records = [
        PointRecord(
            step=step,
            time=10 + step * step_s,
            values={name: math.inf if generator.random() < 0.0005 else generator.gauss(0, 1) for name in ("a", "b")},
        )
        for step in range(900)
    ]
    names = SeriesNames(Redactor(Path("/data"), Path("/application"), {}))
    size = len(records) // batches
    given = [records[start : start + size] for start in range(0, len(records), size)]
    found = list(thinned(point for batch in given for point in RunJudge(names).points(Batch(in_blocks(batch)))))
    plain = [Point(name, each.step, each.time, value) for each in records for name, value in each.values.items()]
    assert found == list(thinned(plain))


def test_each_series_has_its_own_second():
    given = mixed(points([1.0] * 60, "a", step_s=0.001), points([1.0] * 40, "b", step_s=0.001))
    assert sum(each.series == "b" for each in thinned(given)) == 40


@pytest.mark.parametrize(
    ("kind", "series"),
    [
        ("loss", "train/loss"),
        ("loss", "validationLoss"),
        ("loss", "eval_ppl"),
        ("loss", "cross_entropy"),
        ("loss", "test error"),
        ("free_loss", "loss/generator"),
        ("free_loss", "value_loss"),
        ("score", "val_acc"),
        ("score", "F1"),
        ("score", "rollout/ep_reward"),
        ("speed", "speed/samples_per_second"),
        ("speed", "tokens/s"),
        ("duration", "speed/step_ms"),
        ("duration", "iter_time"),
        ("data_wait", "speed/data_wait_fraction"),
        ("gradient", "train/grad_norm"),
        ("machine", "gpu/0/power_w"),
        ("other", "optimizer/learning_rate"),
        ("other", "lr"),
        ("other", "epoch"),
    ],
)
def test_a_name_tells_what_a_series_is(kind: str, series: str):
    assert kind_of(series) == kind


def test_validation_is_told_by_its_name():
    assert is_validation("val/loss") and is_validation("valLoss") and not is_validation("value_loss")
