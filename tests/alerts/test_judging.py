"""A supervisor's alert thread: findings in stored ticks, their ends, and no delay of a tick."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Alarm, Point
from runs.models import Alert, Attempt, Project, Run, StoredEvent
from runs.recording import alerts
from runs.recording.lifecycle import Holder, Lease, open_attempt
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.redacted_records import SeriesNames
from steersman.records.kinds import OutcomeRecord, PointRecord, StateRecord
from steersman.records.point_blocks import in_blocks
from tests.support.stack import wait_for
from trainer.alerts import thread as thread_module
from trainer.alerts.judging import Batch, RunJudge, usual_of
from trainer.alerts.thread import AlertThread

REDACTOR = Redactor(Path("/data"), Path("/code"), {})
NOW = 1_800_000_000.0
LOSS = "train/loss"


def losses(*values: float, first: int = 1, began: float = NOW) -> Batch:
    """Return a batch of losses, ten per second."""
    records = [
        PointRecord(step=first + place, time=began + place / 10, values={LOSS: value})
        for place, value in enumerate(values)
    ]
    return Batch(records=in_blocks(records))


def judged(judge: RunJudge, batch: Batch, now: float = NOW) -> list[Any]:
    return [finding for point in judge.points(batch) for finding in judge.see(point, now)]


class Told(Judge):
    """Records what it is passed; an alarm lasts while a value is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.seen: list[Point] = []
        self.bad: set[tuple[str, str]] = set()

    def judge(self, point: Point) -> list[Alarm]:
        self.seen.append(point)
        key = ("spike", point.series)
        began = point.value < 0 and key not in self.bad
        (self.bad.add if point.value < 0 else self.bad.discard)(key)
        return [Alarm("spike", point.series, point.step, "warning")] if began else []

    def turned(self) -> None:
        self.told.append("turned")

    def resumed(self) -> None:
        self.told.append("resumed")

    @property
    def active(self) -> list[tuple[str, str]]:
        return list(self.bad)


def test_a_value_that_is_not_finite_is_an_alert_until_it_is_over() -> None:
    judge = RunJudge(SeriesNames(REDACTOR))
    assert judged(judge, losses(*[1.0] * 20)) == [] and judge.over() == []
    (finding,) = judged(judge, losses(float("nan"), first=21, began=NOW + 2))
    assert (finding.detector, finding.series, finding.step) == ("non-finite", LOSS, 21)
    assert (finding.title, finding.value, finding.nonfinite) == ("Not finite", None, "nan")
    assert finding.usual == "1 ± 0" and finding.began_at.timestamp() == NOW + 2 and not finding.late
    assert judge.over() == []
    judged(judge, losses(*[1.0] * 200, first=22, began=NOW + 3))
    assert judge.over() == [("non-finite", LOSS)] and judge.over() == []


def test_what_begins_again_at_once_is_told_once_a_minute() -> None:
    judge, found, over = RunJudge(SeriesNames(REDACTOR), Told()), [], 0
    for second in range(150):
        found += judged(judge, losses(-1.0 if second % 2 == 0 else 1.0, first=second, began=NOW + second))
        over += len(judge.over())
    assert [finding.step for finding in found] == [0, 60, 120] and over == 3
    assert judge.take_left_out() == 72 and judge.take_left_out() == 0


def test_what_begins_again_too_soon_is_told_later_if_it_lasts() -> None:
    judge = RunJudge(SeriesNames(REDACTOR), Told())
    assert len(judged(judge, losses(-1.0))) == 1
    judged(judge, losses(1.0, first=2, began=NOW + 1))
    assert judge.over() == [("spike", LOSS)]
    assert judged(judge, losses(-1.0, first=3, began=NOW + 2)) == []
    assert judged(judge, losses(-1.0, first=4, began=NOW + 59)) == [] and judge.over() == []
    (finding,) = judged(judge, losses(-1.0, first=5, began=NOW + 60))
    assert (finding.step, finding.began_at.timestamp()) == (3, NOW + 2) and judge.take_left_out() == 0
    judged(judge, losses(1.0, first=6, began=NOW + 61))
    assert judge.over() == [("spike", LOSS)]
    # Another series has its own minute, and alarms that are held back when the training ends are counted.
    other = PointRecord(step=7, time=NOW + 62, values={"other/loss": -1.0, LOSS: -1.0})
    assert [finding.series for finding in judged(judge, Batch(records=in_blocks([other])))] == ["other/loss"]
    judge.end()
    assert judge.take_left_out() == 1


def test_a_point_that_comes_late_says_so() -> None:
    for after, late in ((59.0, False), (61.0, True)):
        (finding,) = judged(RunJudge(SeriesNames(REDACTOR)), losses(float("nan")), NOW + after)
        assert finding.late is late


def test_detectors_hear_of_what_people_did() -> None:
    told = Told()
    records = [
        OutcomeRecord(step=1, time=NOW, id=None, command="set_knob", state="refused"),
        OutcomeRecord(step=1, time=NOW, id=None, command="set_knob", state="applied"),
        OutcomeRecord(step=1, time=NOW, id=None, command="evaluate", state="applied"),
        StateRecord(step=1, time=NOW, state="paused"),
        StateRecord(step=1, time=NOW, state="running"),
    ]
    assert list(RunJudge(SeriesNames(REDACTOR), told).points(Batch(records=records))) == []
    assert told.told == ["turned", "resumed"]


def test_samples_of_the_machine_are_judged_too() -> None:
    batch = Batch(system={"gpu/0/temperature_c": 91.0, "host/cpu": None}, step=7, time=NOW)
    assert list(RunJudge(SeriesNames(REDACTOR)).points(batch)) == [Point("gpu/0/temperature_c", 7, NOW, 91.0)]


def test_what_is_usual_needs_some_values() -> None:
    assert usual_of([1.0] * 7) == ""
    assert usual_of([4068.0 + place * 60 for place in range(9)]) == "4310 ± 180"
    assert usual_of([0.29, 0.30, 0.31, 0.32, 0.33, 0.30, 0.31, 0.32, 0.31]) == "0.31 ± 0.015"


@pytest.fixture
def lease(transactional_db: None) -> Lease:
    project = Project.objects.create(name="Lab", slug="lab")
    run = Run.objects.create(project=project, name="first")
    lease = open_attempt(run.pk, Holder("gpu-host", "boot", 1), 0, command_line=[])
    Run.objects.filter(pk=run.pk).update(handled_commands=["save_checkpoint"])
    return lease


@pytest.fixture
def begin(lease: Lease) -> Iterator[Callable[[Judge], AlertThread]]:
    started: list[AlertThread] = []

    def start(judge: Judge) -> AlertThread:
        started.append(AlertThread(lease, REDACTOR, judge))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.finish(60.0)


def states() -> list[str]:
    return list(Alert.objects.order_by("pk").values_list("state", flat=True))


def test_it_writes_what_begins_and_what_is_over(lease: Lease, begin: Callable[[Judge], AlertThread]) -> None:
    thread = begin(Told())
    thread.take(losses(-1.0, -1.0))
    wait_for(lambda: states() == ["open"], "an alert")
    thread.take(losses(1.0, first=3))
    wait_for(lambda: states() == ["cleared"], "its end")
    thread.take(losses(-1.0, first=4, began=NOW + 60))
    thread.take(losses(1.0, first=5, began=NOW + 61))
    thread.take(losses(-1.0, first=6, began=NOW + 120))
    thread.finish(60.0)
    assert states() == ["cleared", "cleared", "open"]
    assert StoredEvent.objects.filter(run_id=lease.run_id, kind="alert").count() == 5


def test_it_writes_no_more_than_there_is_room_for_and_counts_the_others(
    lease: Lease, begin: Callable[[Judge], AlertThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MOST_OF_DETECTORS", 2)
    thread = begin(Told())
    bad = {f"{number}/loss": -1.0 for number in range(5)}
    thread.take(Batch(records=in_blocks([PointRecord(step=1, time=NOW, values=bad)])))
    good = dict.fromkeys(bad, 1.0)
    thread.take(Batch(records=in_blocks([PointRecord(step=2, time=NOW + 1, values=good)])))
    thread.finish(60.0)
    assert states() == ["cleared", "cleared"]
    assert Attempt.objects.get(pk=lease.attempt_id).alerts_left_out == 3


def test_a_supervisor_that_takes_over_clears_what_the_dead_one_found(
    lease: Lease, begin: Callable[[Judge], AlertThread]
) -> None:
    begin(Told()).take(losses(-1.0))
    wait_for(lambda: states() == ["open"], "an alert")
    begin(Told()).take(losses(1.0))
    wait_for(lambda: states() == ["cleared"], "its end")


def test_a_slow_detector_delays_nobody_and_costs_the_oldest_points(
    monkeypatch: pytest.MonkeyPatch, begin: Callable[[Judge], AlertThread]
) -> None:
    monkeypatch.setattr(thread_module, "MOST_WAITING_VALUES", 10)
    go_on, waits = threading.Event(), threading.Event()

    class Slow(Told):
        def judge(self, point: Point) -> list[Alarm]:
            waits.set()
            go_on.wait()
            return super().judge(point)

    slow = Slow()
    thread = begin(slow)
    thread.take(losses(0.0))
    assert waits.wait(60)
    # The detector hangs, but passing on a batch returns.
    for step in range(2, 102):
        thread.take(losses(float(step), first=step))
    (line,) = thread.take_lines()
    assert "skipped" in line.text
    assert thread.dropped_values == 90
    go_on.set()
    thread.finish(60.0)
    assert [point.step for point in slow.seen] == [1, *range(92, 102)]
    assert slow.told == ["turned"]


def test_a_database_that_waits_delays_nobody_and_costs_no_alert(
    monkeypatch: pytest.MonkeyPatch, begin: Callable[[Judge], AlertThread]
) -> None:
    go_on, waits = threading.Event(), threading.Event()
    write = alerts.begin

    def slow(*arguments: Any) -> Alert | None:
        waits.set()
        go_on.wait()
        return write(*arguments)

    monkeypatch.setattr(alerts, "begin", slow)
    thread = begin(Told())
    thread.take(losses(-1.0))
    assert waits.wait(60)
    # The database does not answer, but passing on a batch and finishing return.
    thread.take(losses(1.0, first=2))
    thread.finish(0.0)
    assert states() == []
    go_on.set()
    wait_for(lambda: states() == ["cleared"], "an alert and its end")


def test_a_database_that_fails_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, begin: Callable[[Judge], AlertThread]
) -> None:
    monkeypatch.setattr(thread_module, "LOOK_INTERVAL_S", 0.01)
    write, failures = alerts.begin, [OperationalError("away")] * 3

    def failing(*arguments: Any) -> Alert | None:
        if failures:
            raise failures.pop()
        return write(*arguments)

    monkeypatch.setattr(alerts, "begin", failing)
    begin(Told()).take(losses(-1.0))
    wait_for(lambda: states() == ["open"], "an alert")
    assert failures == []


def test_a_detector_that_raises_costs_one_line(begin: Callable[[Judge], AlertThread]) -> None:
    class Broken(Told):
        def judge(self, point: Point) -> list[Alarm]:
            if not self.messages:
                self.messages.append("The detector spike is switched off: ValueError: odd")
            return []

    thread = begin(Broken())
    thread.take(losses(0.0))
    thread.take(losses(0.0, first=2))
    thread.finish(60.0)
    (line,) = thread.take_lines()
    assert line.level == "warning" and "spike is switched off" in line.text


def test_a_fault_of_its_own_ends_the_judging_alone(begin: Callable[[Judge], AlertThread]) -> None:
    class Faulty(Told):
        def judge(self, point: Point) -> list[Alarm]:
            raise RuntimeError("odd")

    thread = begin(Faulty())
    thread.take(losses(0.0))
    lines = wait_for(thread.take_lines, "a line")
    assert "switched off after an error (RuntimeError: odd)" in lines[0].text
    thread.take(losses(0.0, first=2))
    thread.finish(60.0)


def test_it_ends_quietly_where_another_attempt_holds_the_run(
    lease: Lease, begin: Callable[[Judge], AlertThread]
) -> None:
    thread = begin(Told())
    open_attempt(lease.run_id, Holder("other-host", "boot", 1), lease.number, command_line=[])
    thread.take(losses(-1.0))
    thread.finish(60.0)
    assert states() == [] and thread.take_lines() == []


def test_a_layer_that_is_observed_after_the_alarm_is_added_to_the_lasting_alert(lease):
    thread = AlertThread(lease, REDACTOR)
    thread.start()
    step = 0

    def observe(head: float) -> Batch:
        values = {"layers/gradient/body": 2.0 + 0.01 * (step % 7), "layers/gradient/head": head}
        return Batch(records=in_blocks([PointRecord(step=step, time=NOW + step / 10, values=values)]))

    for step in range(50, 600, 50):
        thread.take(losses(*[1.0 + 0.01 * (place % 5) for place in range(50)], first=step - 49, began=NOW + step / 10))
        thread.take(observe(1.0))
    thread.take(losses(*[float("nan")] * 5, first=551, began=NOW + 56))
    wait_for(lambda: Alert.objects.filter(detector="non-finite").exists(), "an alert")
    assert Alert.objects.get(detector="non-finite").cause == {}
    step = 600
    thread.take(observe(9.0))
    wait_for(lambda: bool(Alert.objects.get(detector="non-finite").cause), "its layer")
    thread.finish(60.0)
    alert = Alert.objects.get(detector="non-finite")
    assert alert.cause["layer"] == "head" and alert.text.endswith(
        "The fault began in head, whose gradient norm was 9× its usual value at step 600."
    )
    told = StoredEvent.objects.filter(run_id=lease.run_id, kind="alert").count()
    assert told >= 2
