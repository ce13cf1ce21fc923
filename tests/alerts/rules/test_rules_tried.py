"""Trying rules on a run's result: where alerts would have begun, within bounds."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime

import pytest

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Point
from runs.alerts.rulebook import trials
from runs.alerts.rulebook.trials import try_rule, try_rules
from runs.alerts.rules import DEFAULT_RULES, Rule
from runs.models import Chunk, Command, CommandState, Project, Run
from runs.recording import feed
from runs.series import storage
from runs.series.newest import newest_points
from tests.support.stored_points import LOSS, START, metrics, store

pytestmark = pytest.mark.django_db
CHANCE = random.Random(1)
FALLING = [2.0 / (1 + step / 100) + CHANCE.gauss(0, 0.01) for step in range(600)]
SPIKED = [*FALLING[:400], 30.0, 30.0, *FALLING[402:500], 40.0, 40.0, *FALLING[502:]]


@pytest.fixture
def run() -> Run:
    return Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="run")


def steps(found: object) -> list[int]:
    return [fired.step for fired in found.fired]  # type: ignore[attr-defined]


def test_it_finds_what_a_live_judge_finds(run: Run) -> None:
    store(run, SPIKED)
    judge = Judge()
    live = [alarm for step, value in enumerate(SPIKED) for alarm in judge.judge(Point(LOSS, step, START + step, value))]
    assert [(alarm.detector, alarm.step) for alarm in live] == [("spike", 400), ("spike", 500)]
    result = try_rule(run, Rule("spike", cool_down_s=0.0))
    assert steps(result) == [400, 500] and (result.points, result.left_out, result.unseen) == (600, 0, 0)
    assert [(fired.series, fired.attempt) for fired in result.fired] == [(LOSS, 1)] * 2
    # At 50 points per second, the second one comes two seconds after the first.
    assert steps(try_rule(run, Rule("spike", cool_down_s=60.0))) == [400]


def test_points_in_chunks_and_points_that_are_not_folded_are_one_curve(run: Run) -> None:
    store(run, SPIKED[:450])
    storage.fold(run.pk)
    store(run, SPIKED[450:], first=450)
    assert Chunk.objects.exists()
    assert steps(try_rule(run, Rule("spike", cool_down_s=0.0))) == [400, 500]


def test_a_limit_is_tried_on_the_series_that_it_names(run: Run) -> None:
    store(run, SPIKED)
    assert steps(try_rule(run, Rule("threshold", "train/*", limit=20.0, cool_down_s=0.0))) == [400, 500]
    assert steps(try_rule(run, Rule("threshold", "other", limit=20.0))) == []


def test_a_rule_that_is_off_or_snoozed_is_tried_all_the_same(run: Run) -> None:
    store(run, SPIKED)
    rule = Rule("spike", is_on=False, snoozed_until=4e9, cool_down_s=0.0, id=3)
    assert steps(try_rule(run, rule)) == [400, 500]


def test_all_rules_are_tried_at_once_each_with_its_own(run: Run) -> None:
    values = [*SPIKED[:550], math.nan, *SPIKED[551:]]
    store(run, values)
    named, limit = Rule("spike", LOSS, cool_down_s=0.0, id=1), Rule("threshold", limit=35.0, id=2)
    result = try_rules(run, [named, limit, Rule("spike", id=3)])
    assert [fired.step for fired in result.of(named)] == [400, 500]
    assert [fired.step for fired in result.of(limit)] == [500]
    assert [fired.step for fired in result.of(DEFAULT_RULES["non-finite"])] == [550]
    assert result.of(Rule("spike", id=3)) == []


def test_what_is_left_out_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store(run, SPIKED)
    storage.fold(run.pk)
    monkeypatch.setattr(trials, "MOST_POINTS", 150)
    result = try_rule(run, Rule("spike", cool_down_s=0.0))
    assert (result.points, result.left_out, result.unseen) == (150, 450, 0) and steps(result) == [500]


def test_it_ends_when_its_time_is_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    store(run, SPIKED)
    monkeypatch.setattr(trials, "LOOK_EVERY", 450)
    ticks = iter([0.0, 9.0, 9.0, 9.0])
    result = try_rule(run, Rule("spike", cool_down_s=0.0), clock=lambda: next(ticks))
    assert steps(result) == [400] and result.points + result.unseen == 600 and 140 < result.unseen <= 151


def test_attempts_are_judged_one_by_one(run: Run) -> None:
    store(run, FALLING)
    # The second attempt continues where the first was healthy: its loss is no spike of the first.
    store(run, [30.0] * 100, first=600, attempt=2)
    assert steps(try_rule(run, Rule("spike"))) == []


def test_a_knob_that_was_turned_widens_the_band(run: Run) -> None:
    jumped = [*FALLING[:400], *(value + 4.0 for value in FALLING[400:430]), *FALLING[430:]]
    store(run, jumped)
    rule = Rule("spike", cool_down_s=0.0)
    before = steps(try_rule(run, rule))
    at = datetime.fromtimestamp(START + 400 * 0.02, UTC)
    Command.objects.create(run=run, kind="set_knob", state=CommandState.APPLIED, author_name="a", sent_at=at,
                           applied_at=at, attempt=1)  # fmt: skip
    told: list[str] = []

    class Told(Judge):
        def turned(self) -> None:
            told.append("turned")
            super().turned()

    trials.Judge, held = Told, trials.Judge  # type: ignore[misc]
    try:
        try_rule(run, rule)
    finally:
        trials.Judge = held  # type: ignore[misc]
    assert before == [400] and told == ["turned"]


def test_the_newest_points_of_each_series_are_read(run: Run) -> None:
    columns = {"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0]}
    feed.append(run.pk, metrics(columns, range(3)))
    for event in run.events.all():
        assert event.kind == "metrics"
    storage.update_latest(run.pk, [metrics(columns, range(3))])
    feed.append(run.pk, metrics({"a": [7.0]}, [3], attempt=2))
    for folded in (False, True):
        if folded:
            storage.fold(run.pk)
        newest = newest_points(run.pk, ["a", "b"], 2)
        found = {key: points.values.tolist() for key, points in newest.points.items()}
        assert found == {(2, "a"): [7.0], (1, "a"): [3.0], (1, "b"): [5.0, 6.0]} and newest.left_out == 3
    assert newest_points(run.pk, ["b"], 1).points.keys() == {(1, "b")}
