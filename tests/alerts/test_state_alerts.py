"""Alerts of a run's state: begun and cleared together with it, and only once."""

from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path

import pytest

from runs.models import Alert, AlertDestination, AlertRule, Project, Recipe, Run, RunState, StoredEvent
from runs.models.alerts import OF_CODE
from runs.protocol.causes import Death
from runs.recording import state_alerts
from runs.recording.lifecycle import AttemptEnd, Holder, Lease, end_attempt, mark_lost, open_attempt, renew_lease
from runs.recording.queue import queue_restart
from runs.recording.record_side.store import RecordSide
from runs.recording.state_alerts import note_disk
from steersman.agent.machine import disk_watch
from steersman.agent.machine.disk_watch import DiskWatch
from steersman.agent.machine.redactor import Redactor
from steersman.messages.disks import GIB, DiskDefaults, DiskSpace
from steersman.messages.reports import Report
from tests.support.stack import wait_for
from trainer.alerts.thread import AlertThread

FAILED = AttemptEnd(outcome=RunState.FAILED, exit_code=1, error="RuntimeError: out of luck")
HOLDER = Holder("gpu1", "boot", 1)


@pytest.fixture
def run(db: None) -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    return Run.objects.create(project=project, name="one", recipe=Recipe.objects.create(spec="digits", title="Digits"))


def hold(run: Run, attempt: int = 0, *, restart: bool = False) -> Lease:
    return open_attempt(run.pk, HOLDER, attempt, command_line=[], restart=restart)


def states(detector: str) -> list[tuple[int, str]]:
    return list(Alert.objects.filter(detector=detector).order_by("pk").values_list("attempt", "state"))


def test_a_crash_outlives_its_attempt_and_is_over_with_the_next(run: Run) -> None:
    lease = hold(run)
    renew_lease(lease, step=7)
    Alert.objects.create(
        run=run, attempt=1, detector="spike", severity="warning", title="x", began_at="2026-01-01T00:00Z"
    )
    end_attempt(lease, FAILED)
    crash = Alert.objects.get(detector="crash")
    assert (crash.severity, crash.step, crash.text) == ("critical", 7, "RuntimeError: out of luck")
    assert (states("crash"), states("spike")) == ([(1, "open")], [(1, "cleared")])
    told = [json.loads(frame) for frame in StoredEvent.objects.filter(kind="alert").values_list("frame", flat=True)]
    assert ("crash", "open") in [(event["detector"], event["state"]) for event in told]
    hold(run, 1)
    assert states("crash") == [(1, "cleared")]
    assert states("restart") == []


@pytest.mark.parametrize("outcome", [RunState.FINISHED, RunState.STOPPED])
def test_an_attempt_that_ends_well_is_no_crash(run: Run, outcome: RunState) -> None:
    end_attempt(hold(run), AttemptEnd(outcome=outcome))
    assert not Alert.objects.exists()


def test_a_restart_lasts_as_long_as_its_attempt(run: Run) -> None:
    end_attempt(hold(run), FAILED)
    queue_restart(run.pk, "gpu1", 0.0, "why")
    lease = hold(run, 1, restart=True)
    restart = Alert.objects.get(detector="restart")
    assert (restart.text, restart.severity) == ("RuntimeError: out of luck", "warning")
    end_attempt(lease, AttemptEnd(outcome=RunState.FINISHED))
    assert (states("restart"), states("crash")) == ([(2, "cleared")], [(1, "cleared")])


def test_a_lost_run_is_an_alert_until_it_is_heard_again(run: Run) -> None:
    lease = hold(run)
    heartbeat = Run.objects.get().heartbeat
    assert mark_lost(run.pk, 1, heartbeat)
    assert not mark_lost(run.pk, 1, heartbeat)
    assert states("lost") == [(1, "open")]
    assert "No heartbeat" in Alert.objects.get().text
    renew_lease(lease)
    assert states("lost") == [(1, "cleared")]


def test_the_next_attempt_ends_what_was_lost(run: Run) -> None:
    hold(run)
    mark_lost(run.pk, 1, Run.objects.get().heartbeat)
    hold(run, 1)
    assert states("lost") == [(1, "cleared")]


def test_a_disk_that_wavers_around_the_limit_is_one_alert(run: Run) -> None:
    hold(run)
    for free in (6, 4.9, 5.1, 4, 7.4):
        note_disk(run.pk, 1, int(free * GIB), 100 * GIB)
    assert states("disk") == [(1, "open")]
    assert Alert.objects.get().text == "4.9 GiB of 100.0 GiB are free."
    note_disk(run.pk, 1, 8 * GIB, 100 * GIB)
    assert states("disk") == [(1, "cleared")]


def test_twenty_gib_of_a_large_disk_are_enough() -> None:
    assert not DiskDefaults().is_full(21 * GIB, 4000 * GIB)
    assert DiskDefaults().is_full(19 * GIB, 4000 * GIB)


def test_the_scarcer_disk_is_reported_until_it_is_stored_that_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = namedtuple("usage", "total used free")
    free = {"data": 50, "checkpoints": 3}

    def asked(folder: Path) -> object:
        if not Path(folder).exists():
            raise FileNotFoundError(folder)
        return usage(100 * GIB, 0, free[Path(folder).name] * GIB)

    monkeypatch.setattr(disk_watch.shutil, "disk_usage", asked)
    folders = [tmp_path / name for name in free]
    watch = DiskWatch(folders)
    watch.look(1.0)
    # Neither is there.
    assert watch.take_space() is None
    for folder in folders:
        folder.mkdir()
    watch.look(2.0)
    assert watch.take_space() is None
    watch.look(12.0)
    found = watch.take_space()
    assert found == DiskSpace(3 * GIB, 100 * GIB) and watch.take_space() is None
    watch.settle(found)
    watch.look(23.0)
    assert watch.take_space() == found
    assert [line.level for line in watch.take_lines()] == ["warning"] and len(caplog.messages) == 1
    free["checkpoints"] = 9
    watch.look(34.0)
    assert watch.take_space() is not None
    # The report was lost.
    watch.look(45.0)
    found = watch.take_space()
    assert found == DiskSpace(9 * GIB, 100 * GIB) and found.is_well
    watch.settle(found)
    watch.look(56.0)
    assert watch.take_space() is None
    assert [line.level for line in watch.take_lines()] == ["info"] and len(caplog.messages) == 2
    watch.attach()
    watch.look(67.0)
    assert watch.take_space() == found


def test_a_report_of_the_disk_is_an_alert_of_an_attempt_that_holds_the_run(run: Run) -> None:
    record = RecordSide(hold(run))
    session = record.attach().session
    record.report(Report(session, 1, disk=DiskSpace(4 * GIB, 100 * GIB)))
    record.report(Report(session, 2, disk=DiskSpace(4 * GIB, 100 * GIB)))
    assert states("disk") == [(1, "open")]
    record.report(Report(session, 3, disk=DiskSpace(8 * GIB, 100 * GIB)))
    assert states("disk") == [(1, "cleared")]
    hold(run, 1)
    record.keep_as_history()
    record.report(Report(session, 4, disk=DiskSpace(4 * GIB, 100 * GIB)))
    assert states("disk") == [(1, "cleared")]


@pytest.mark.django_db(transaction=True)
def test_a_supervisor_that_takes_over_leaves_these_alerts_alone() -> None:
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")
    lease = hold(run)
    state_alerts.lost(run.pk, 1, Death())
    old = {"run": run, "attempt": 1, "severity": "warning", "title": "x", "began_at": "2026-01-01T00:00Z"}
    for detector in ("spike", OF_CODE):
        Alert.objects.create(detector=detector, **old)
    thread = AlertThread(lease, Redactor(Path("/data"), Path("/code"), {}))
    thread.start()
    wait_for(lambda: states("spike") == [(1, "cleared")], "the earlier supervisor's alert is over")
    thread.finish(60.0)
    assert (states("lost"), states(OF_CODE)) == ([(1, "open")], [(1, "open")])


def test_a_rule_decides_of_them_too(run: Run) -> None:
    of_project = AlertRule.objects.create(project=run.project, detector="crash", severity="info", dry_run=False)
    AlertRule.objects.create(project=run.project, run=run, detector="restart", is_on=False)
    AlertDestination.objects.create(project=run.project, name="us", secret="", least_severity="info")
    end_attempt(hold(run), FAILED)
    crash = Alert.objects.get(detector="crash")
    assert (crash.severity, crash.rule_id, crash.deliveries.count()) == ("info", of_project.pk, 1)
    queue_restart(run.pk, "gpu1", 0.0, "why")
    AlertRule.objects.update(tells=False)
    end_attempt(hold(run, 1, restart=True), FAILED)
    assert states("restart") == []
    assert Alert.objects.filter(detector="crash").latest("pk").deliveries.count() == 0
