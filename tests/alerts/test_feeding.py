"""What the detectors of a run receive besides the points of its steps: values of epochs, and resumes of a training."""

from __future__ import annotations

import random
from collections.abc import Collection
from pathlib import Path

import pytest
from django.db import OperationalError

from runs.alerts.detectors.judge import Judge
from runs.alerts.rules import Rule
from runs.models import Project, Run
from runs.recording.lifecycle import Holder, open_attempt
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.redacted_records import SeriesNames
from steersman.records.kinds import EpochRecord, PointRecord, WatchRecord
from steersman.records.point_blocks import in_blocks
from steersman.records.record import Record
from tests.alerts.detectors.scenes import judged, names, points
from trainer.alerts import shared_reads
from trainer.alerts import thread as alert_thread
from trainer.alerts.judging import Batch, RunJudge
from trainer.alerts.thread import AlertThread

NOW = 1_800_000_000.0
REDACTOR = Redactor(Path("/data"), Path("/code"), {})


def run_judge() -> RunJudge:
    return RunJudge(SeriesNames(REDACTOR))


def names_shown(judge: RunJudge, *records: Record) -> list[str]:
    return [point.series for point in judge.points(Batch(records=in_blocks(records)))]


def epoch(number: int, **values: float) -> EpochRecord:
    return EpochRecord(step=number * 10, time=NOW + number * 10, epoch=number, values=values)


def test_validation_values_of_epochs_are_shown_and_others_only_where_no_step_tells() -> None:
    step = PointRecord(step=1, time=NOW, values={"train/loss": 1.0, "val_accuracy": 0.5})
    told = epoch(1, train_loss=1.0, validation_loss=1.1, val_accuracy=0.5)
    assert names_shown(run_judge(), told) == ["train_loss", "validation_loss", "val_accuracy"]
    assert names_shown(run_judge(), step, told) == ["train/loss", "val_accuracy", "validation_loss"]


def test_a_validation_loss_of_epochs_that_rises_is_overfitting() -> None:
    judge, found = run_judge(), []
    for number in range(1, 41):
        training = 2.0 * 0.93**number
        validation = 2.0 * 0.93**number + (0.0 if number < 15 else 0.1 * (number - 15))
        steps = [
            PointRecord(step=number * 10 + k, time=NOW + number * 10 + k, values={"train/loss": training})
            for k in range(9)
        ]
        for point in judge.points(Batch(records=in_blocks([*steps, epoch(number, validation_loss=validation)]))):
            found += judge.see(point, point.time)
    assert ("overfitting", "validation_loss") in [(each.detector, each.series) for each in found]


def flat(count: int = 1500) -> list[float]:
    noise = random.Random(3)
    return [0.4 + noise.gauss(0, 0.02) for _ in range(count)]


def test_a_converged_loss_that_goes_on_is_no_plateau() -> None:
    assert "plateau" in names(judged(points(flat())))
    judge = Judge()
    judge.continues()
    assert judged(points(flat()), judge) == []


@pytest.mark.parametrize(("goes_on", "resumes"), [(True, True), (False, False)])
@pytest.mark.django_db(transaction=True)
def test_the_thread_says_that_a_training_goes_on(goes_on: bool, resumes: bool) -> None:
    told: list[str] = []

    class Told(Judge):
        def continues(self) -> None:
            told.append("continues")

    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")
    thread = AlertThread(open_attempt(run.pk, Holder("h", "b", 1), 0, command_line=[]), REDACTOR, Told())
    thread.start(resumes=goes_on)
    thread.finish(60.0)
    assert bool(told) is resumes


@pytest.mark.parametrize("declared_after", [0, 30])
def test_a_series_that_is_watched_is_judged_whatever_it_is_called(declared_after: int) -> None:
    values = [1.0 + 0.01 * (number % 5) for number in range(200)] + [900.0] * 2
    records: list[Record] = [
        PointRecord(step=number, time=NOW + number, values={"zeta": value}) for number, value in enumerate(values)
    ]

    def found(told: list[Record]) -> list[str]:
        judge = run_judge()
        return [
            each.detector
            for point in judge.points(Batch(records=in_blocks(told)))
            for each in judge.see(point, point.time)
        ]

    assert found(records) == []
    watched = WatchRecord(step=declared_after, name="zeta", goal="min")
    assert "spike" in found([*records[:declared_after], watched, *records[declared_after:]])


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_for_long_is_told_once_and_that_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_away = True

    def away(run_ids: Collection[int]) -> dict[int, tuple[Rule, ...]]:
        if is_away:
            raise OperationalError("connection refused\nIs the server running?")
        return dict.fromkeys(run_ids, ())

    monkeypatch.setattr(alert_thread, "RULES_INTERVAL_S", 0.0)
    monkeypatch.setattr(shared_reads, "rules_of_runs", away)
    monkeypatch.setattr(alert_thread.acting, "catch_up", lambda run_id: away([run_id]))
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")
    thread = AlertThread(open_attempt(run.pk, Holder("h", "b", 1), 0, command_line=[]), REDACTOR)
    for _ in range(3):
        thread._settle()
        thread._read_rules()
    is_away = False
    for _ in range(3):
        thread._settle()
        thread._read_rules()
    said = [record.getMessage() for record in caplog.records if record.name == alert_thread.__name__]
    alerts_wait, rules_wait, *back = said
    assert "writing its alerts failed" in alerts_wait and "reading its alert rules failed" in rules_wait
    assert len(back) == 2 and all("works again" in each for each in back)
    assert not any("\n" in each for each in said)
