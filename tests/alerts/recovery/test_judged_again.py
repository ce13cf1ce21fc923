"""What the detectors make of a training that was rolled back: its alarms are over, and a fault that returns is new."""

from __future__ import annotations

import math
import random

from runs.alerts.detectors.curve import Curve
from steersman.agent.reporting.redacted_records import SeriesNames
from steersman.records.kinds import OutcomeRecord
from steersman.records.record import Record
from tests.alerts.test_judging import LOSS, NOW, REDACTOR, judged, losses
from trainer.alerts.judging import Batch, RunJudge

CHANCE = random.Random(3)
FALLING = [2.0 / (1 + step / 100) + CHANCE.gauss(0, 0.01) for step in range(600)]


def rolled_back(to_step: int, left: int) -> Record:
    return OutcomeRecord(
        step=left, time=NOW + left / 10, id="1", command="roll_back", state="applied", to_step=to_step, to_epoch=0
    )


def curve_of(values: list[float]) -> Curve:
    curve = Curve()
    for value in values:
        curve.add(value)
    return curve


def trained(judge: RunJudge, values: list[float], first: int, began: float) -> list[str]:
    return [finding.detector for finding in judged(judge, losses(*values, first=first, began=NOW + began))]


def begun(fault: list[float]) -> RunJudge:
    """Return a judge of a training that went wrong behind step 400, and was rolled back to step 300."""
    judge = RunJudge(SeriesNames(REDACTOR))
    judge.curves_at = lambda step: {LOSS: curve_of(FALLING[:step])}
    assert trained(judge, [*FALLING[:400], *fault], 1, 0.0)
    left = 400 + len(fault)
    assert judged(judge, Batch(records=[rolled_back(300, left)])) == []
    return judge


def test_alarms_of_what_was_left_are_over_and_a_fault_that_returns_at_once_is_an_alarm() -> None:
    judge = begun([math.nan] * 20)
    assert judge.over() == [("non-finite", LOSS)]
    assert trained(judge, [*FALLING[300:350], math.nan], 301, 43.0) == ["non-finite"]


def test_a_loss_that_rose_before_the_roll_back_is_no_part_of_its_curve() -> None:
    judge = begun([9.0] * 60)
    assert judge.over() and trained(judge, FALLING[300:], 301, 46.0) == []
    assert judge.over() == []
    assert "divergence" in trained(judge, [9.0] * 60, 601, 76.0)


def test_points_of_before_the_roll_back_that_come_late_are_not_judged() -> None:
    judge = begun([math.nan] * 20)
    assert trained(judge, [math.nan], 410, 41.0) == []
