"""What detectors know of a training whose beginning they did not see: it was resumed, or its supervisor replaced."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Point
from runs.alerts.rulebook.history import BUCKETS, curves_before, goals_before
from runs.models import Alert, Attempt, Project, Run
from runs.recording.lifecycle import Holder, Lease, open_attempt
from runs.recording.record_side.store import RecordSide
from runs.series import storage
from steersman.agent.journals.merged import JournalsRead
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.records.kinds import PointRecord, WatchRecord
from steersman.records.point_blocks import in_blocks
from tests.alerts.test_judging import NOW, REDACTOR
from tests.support.stack import wait_for
from tests.support.stored_points import LOSS, store
from trainer.alerts.judging import Batch
from trainer.alerts.thread import AlertThread

pytestmark = pytest.mark.django_db(transaction=True)
CHANCE = random.Random(2)
LEARNS_NOTHING = [0.9 + CHANCE.gauss(0, 0.02) + (0.1 if step < 20 else 0.0) for step in range(5000)]
CONVERGED = [0.2 + 2 / (1 + step / 10) + CHANCE.gauss(0, 0.01) for step in range(5000)]


@pytest.fixture
def lease() -> Lease:
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="run")
    return open_attempt(run.pk, Holder("h", "b", 1), 0, command_line=[])


def resumed(lease: Lease, values: list[float], step: int) -> Attempt:
    """Store the points of attempt 1, and begin attempt 2 after `step`."""
    run = Run.objects.get(pk=lease.run_id)
    store(run, values)
    storage.fold(run.pk)
    again = open_attempt(run.pk, Holder("h", "b", 2), lease.number, command_line=[])
    Attempt.objects.filter(pk=again.attempt_id).update(resumed_step=step)
    return Attempt.objects.get(pk=again.attempt_id)


@pytest.mark.parametrize(
    ("values", "seen", "expected"),
    [
        (LEARNS_NOTHING, 4000, ["plateau"]),
        (LEARNS_NOTHING[:60], 60, []),
        (CONVERGED, 4000, []),
        # It diverged after the checkpoint: points that were rolled back are not part of the curve.
        ([*CONVERGED[:4001], *[9.0] * 900], 4000, []),
        # It diverged before: that continues, and new points show it.
        ([*CONVERGED[:3500], *[9.0] * 1500], 4999, ["divergence"]),
    ],
    ids=["plateau", "few points", "converged", "taken back", "diverged"],
)
def test_a_resumed_attempt_is_judged_with_what_came_before(lease, values, seen, expected):
    attempt = resumed(lease, values, seen)
    curves = curves_before(attempt, {})
    assert len(curves[LOSS].levels) <= BUCKETS + 1
    judge = Judge()
    judge.continues()
    judge.remember(LOSS, curves[LOSS])
    assert judge.active == [] and judge.silent(NOW) == []
    goes_on = values[seen + 1 :] if expected == ["divergence"] else values[: 1 + seen][-900:]
    later = [*goes_on, *goes_on[-300:] * 3] if goes_on else values[-1:] * 900
    found = [
        alarm for step, value in enumerate(later, seen + 1) for alarm in judge.judge(Point(LOSS, step, NOW, value))
    ]
    assert [alarm.detector for alarm in found] == expected
    # With unknown earlier points, it cannot be seen that nothing was learnt.
    alone = Judge()
    alone.continues()
    blind = [alarm for step, value in enumerate(later, seen) for alarm in alone.judge(Point(LOSS, step, NOW, value))]
    assert "plateau" not in [alarm.detector for alarm in blind]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([2.5, 1.8, 1.0, 0.7, 0.6], ["spike"]),
        ([0.4, 2.5, 1.8, 0.7, 0.6], ["spike"]),
        # A bad batch, and an optimizer that begins anew.
        ([2.5, 0.3, 0.3, 0.3, 0.3], []),
        ([0.9, 0.8, 0.7, 0.6, 0.5], []),
    ],
    ids=["wrong", "wrong after a step", "one batch", "cold optimizer"],
)
def test_an_attempt_that_resumes_with_a_loss_as_at_the_start_is_told_at_once(lease, first, expected):
    attempt = resumed(lease, CONVERGED[:1000], 999)
    judge = Judge()
    judge.continues()
    judge.remember(LOSS, curves_before(attempt, {})[LOSS])
    later = [*first, *CONVERGED[1000:1400]]
    found = [alarm for step, value in enumerate(later, 1000) for alarm in judge.judge(Point(LOSS, step, NOW, value))]
    assert [alarm.detector for alarm in found] == expected
    # Two of four values: the first of them is where it began.
    assert [alarm.step for alarm in found] == [1000 + (first[0] < 1)] * len(expected)
    assert judge.active == []


def test_goals_outlive_the_supervisor_that_heard_of_them(lease, tmp_path: Path):
    records = [WatchRecord(step=1, name="zeta", goal="min"), WatchRecord(step=1, name="eta", goal="max")]
    ingest = Reporter(RecordSide(lease), tmp_path, REDACTOR, StoredProgress())
    ingest.store(Tick(read=JournalsRead(list(records))))
    ingest.store(Tick(read=JournalsRead([WatchRecord(step=2, name="eta", goal="min")])))
    assert goals_before(Attempt.objects.get()) == {"zeta": "min", "eta": "min"}
    thread = AlertThread(lease, REDACTOR)
    thread.start(resumes=True)
    values = [1.0 + 0.01 * (number % 5) for number in range(200)] + [900.0] * 2
    points = [PointRecord(step=n, time=NOW + n, values={"zeta": value}) for n, value in enumerate(values)]
    thread.take(Batch(records=in_blocks(points)))
    (alert,) = wait_for(lambda: list(Alert.objects.all()), "an alert of a series that was declared before")
    thread.finish(60.0)
    assert (alert.detector, alert.series) == ("spike", "zeta")
    # The next attempt begins with them, and keeps its own.
    again = open_attempt(lease.run_id, Holder("h", "b", 2), lease.number, command_line=[])
    assert goals_before(Attempt.objects.get(pk=again.attempt_id)) == {"zeta": "min", "eta": "min"}
