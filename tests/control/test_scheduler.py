"""The queue, and one tick of `manage.py watch`: which runs it declares lost, recovers, and leaves alone."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction
from django.utils import timezone

from runs.commands.record import record
from runs.models import Command, Host, Project, Recipe, Run, RunState, StoredEvent
from runs.protocol.commands import Request, Stop, Withdraw
from runs.protocol.events import Block
from runs.recording import feed, queue
from runs.recording.lifecycle import Fenced, Holder, Lease, mark_lost, open_attempt, renew_lease
from runs.recording.liveness import ReceivedHeartbeats
from runs.recording.queue import NotQueueable, claim, enqueue, fail_start, queue_restart, waiting_for
from steersman.agent.folders import host_name
from tests.support.stored_points import metrics_event, read_points
from trainer.recipe_names import source_sha256
from trainer.scheduler import watch as watches
from trainer.scheduler.silent_runs import Pulse, SilenceWatch
from trainer.scheduler.watch import Watch

HERE = host_name()


@pytest.fixture
def run(db: None) -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    return Run.objects.create(project=project, name="one", recipe=Recipe.objects.create(spec="digits", title="Digits"))


def told(run: Run) -> list[tuple[str, str]]:
    """Return state and reason of the status events of a run, with the remark of each."""
    frames = StoredEvent.objects.filter(run=run, kind="status").order_by("seq").values_list("frame", flat=True)
    return [(event["state"], f"{event['reason']} {event['remark']}".strip()) for event in map(json.loads, frames)]


def hold(run: Run) -> Lease:
    return open_attempt(run.pk, Holder("elsewhere", "boot", 1), run.attempt, command_line=[])


def withdraw(run_id: int) -> Command:
    command = record(run_id, Request(id=uuid4(), command=Withdraw()), author_id=None, author_name="anna")
    command.refresh_from_db()
    return command


# The queue


def test_it_queues_and_withdraws(run: Run) -> None:
    enqueue(run.pk, "gpu1")
    run.refresh_from_db()
    assert (run.state, run.queued_host, run.queued_at is not None) == ("queued", "gpu1", True)
    with pytest.raises(NotQueueable, match="queued"):
        enqueue(run.pk)
    withdraw(run.pk)
    run.refresh_from_db()
    assert (run.state, run.queued_host, run.queued_at) == ("created", "", None)
    refused = withdraw(run.pk)
    assert (refused.state, refused.outcome) == ("refused", "The run is created.")
    assert told(run) == [("queued", ""), ("created", "withdrawn from the queue")]


def test_a_run_that_ended_is_again_what_it_was_when_it_is_withdrawn(run: Run) -> None:
    hold(run)
    run.attempts.update(outcome=RunState.FAILED)
    Run.objects.update(state=RunState.FAILED)
    enqueue(run.pk)
    withdraw(run.pk)
    run.refresh_from_db()
    assert run.state == RunState.FAILED


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.PAUSED, RunState.FINISHED])
def test_it_does_not_queue_what_runs_or_has_finished(run: Run, state: RunState) -> None:
    Run.objects.update(state=state)
    with pytest.raises(NotQueueable, match=str(state)):
        enqueue(run.pk)


def test_a_script_of_ones_own_is_not_queued_but_told_how_to_start(run: Run) -> None:
    Run.objects.update(recipe=None)
    with pytest.raises(NotQueueable, match=f"train --run-id {run.pk} -- your_script.py"):
        enqueue(run.pk)


def test_one_host_gets_a_queued_run(run: Run) -> None:
    enqueue(run.pk)
    assert [waiting.pk for waiting in waiting_for("gpu1")] == [run.pk] == [waiting.pk for waiting in waiting_for("b")]
    assert claim(run.pk, "gpu1")
    assert not claim(run.pk, "b")
    assert waiting_for("b") == []


def test_a_stop_takes_a_queued_run_out_of_the_queue(run: Run) -> None:
    enqueue(run.pk, "gpu1")
    command = record(run.pk, Request(id=uuid4(), command=Stop()), author_id=None, author_name="anna")
    run.refresh_from_db()
    command.refresh_from_db()
    assert (run.state, run.queued_host, command.state) == ("created", "", "applied")
    assert told(run)[-1] == ("created", "Not started: the run was stopped while it waited.")


def test_a_restart_waits_for_its_time_on_its_host(run: Run) -> None:
    """A waiting run whose supervisor was killed is like any other queued run."""
    hold(run)
    run.attempts.update(outcome=RunState.FAILED, error="RuntimeError: no")
    queue_restart(run.pk, "gpu1", 60.0, "RuntimeError: no Starts again in 60 s (restart 1 of 3).")
    assert waiting_for("gpu1") == []
    Run.objects.update(queued_at=timezone.now())
    assert [waiting.restarts_used for waiting in waiting_for("gpu1")] == [1] and waiting_for("b") == []
    withdraw(run.pk)
    run.refresh_from_db()
    assert (run.state, run.reason, run.restarts_used) == ("failed", "RuntimeError: no", 0)


def test_whoever_starts_a_run_by_hand_gives_it_all_its_restarts(run: Run) -> None:
    hold(run)
    queue_restart(run.pk, HERE, 0.0, "why")
    run.refresh_from_db()
    lease = open_attempt(run.pk, Holder("h", "boot", 1), 1, command_line=[], restart=True)
    assert Run.objects.get().restarts_used == 1
    with pytest.raises(Fenced, match="out of the queue"):
        open_attempt(run.pk, Holder("h", "boot", 1), lease.number, command_line=[], restart=True)
    open_attempt(run.pk, Holder("h", "boot", 1), lease.number, command_line=[])
    assert Run.objects.get().restarts_used == 0


def test_it_fails_only_the_start_that_was_tried(run: Run) -> None:
    enqueue(run.pk)
    Run.objects.update(attempt=2)
    assert not fail_start(run.pk, 1, "no")
    assert fail_start(run.pk, 2, "There is no such recipe.")
    assert not fail_start(run.pk, 2, "again")
    assert told(run)[-1] == ("failed", "There is no such recipe.")


# Lost and recovered runs


def test_a_run_is_lost_only_while_its_heartbeat_stands_still(run: Run) -> None:
    lease = hold(run)
    run.refresh_from_db()
    renew_lease(lease)
    assert not mark_lost(run.pk, 1, run.heartbeat)
    assert not mark_lost(run.pk, 2, run.heartbeat + 1)
    assert mark_lost(run.pk, 1, run.heartbeat + 1)
    run.refresh_from_db()
    assert run.state == RunState.LOST
    assert not mark_lost(run.pk, 1, run.heartbeat)


@pytest.mark.parametrize("state", [RunState.LOST, RunState.QUEUED])
def test_it_heals_when_its_owner_speaks_again(run: Run, state: RunState) -> None:
    lease = hold(run)
    Run.objects.update(state=state, reason="silent")
    renew_lease(lease, step=7)
    run.refresh_from_db()
    assert (run.state, run.reason, run.step) == ("running", "", 7)
    assert told(run)[-1] == ("running", "the training host sends heartbeats again")
    renew_lease(lease)
    assert len(told(run)) == 2


def test_an_owner_that_was_overtaken_heals_nothing(run: Run) -> None:
    lease = hold(run)
    Run.objects.update(state=RunState.LOST, attempt=2)
    with pytest.raises(Fenced):
        renew_lease(lease)
    run.refresh_from_db()
    assert run.state == RunState.LOST


def test_a_run_whose_owner_tells_by_the_channel_layer_that_it_lives_is_not_lost(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ReceivedHeartbeats()
    monkeypatch.setattr(watches, "received_heartbeats", told)
    hold(run)
    watch = Watch()
    monkeypatch.setattr(watch._heartbeats, "measure", lambda pulses, now: dict.fromkeys(pulses, 60.0))
    told.take({"run": run.pk, "attempt": 1})
    watch.tick()
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    # Heartbeats of another attempt say nothing about this one.
    monkeypatch.setattr(watches, "received_heartbeats", other := ReceivedHeartbeats())
    other.take({"run": run.pk, "attempt": 2})
    watch.tick()
    run.refresh_from_db()
    assert run.state == RunState.LOST


def test_silence_is_counted_by_our_clock_and_only_while_the_database_answers() -> None:
    heartbeats = SilenceWatch()
    still, moving = Pulse(1, 1, 5), Pulse(2, 1, 5)
    assert heartbeats.measure([still, moving], 100.0) == {still: 0.0, moving: 0.0}
    moved = Pulse(2, 1, 6)
    assert heartbeats.measure([still, moved], 102.0) == {still: 2.0, moved: 0.0}
    heartbeats.interrupt()
    assert heartbeats.measure([still], 160.0)[still] == 2.0
    assert heartbeats.measure([still], 161.0)[still] == 3.0
    # The watch itself was suspended.
    assert heartbeats.measure([still], 1161.0)[still] == 6.0
    assert heartbeats.measure([], 1162.0) == {}


def test_it_goes_on_when_the_database_is_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()

    def away(host: str) -> list[Run]:
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "waiting_for", away)
        # The test's transaction needs the connection.
        patch.setattr("trainer.scheduler.watch.close_old_connections", lambda: None)
        watch.tick()
    assert not Host.objects.exists()
    watch.tick()
    host = Host.objects.get()
    assert host.name == HERE
    assert host.devices[0]["device"] == "cpu"
    assert host.devices[0]["memory_total_mib"] > host.devices[0]["memory_used_mib"] > 0


def test_it_brings_back_a_supervisor_that_breaks_after_growing_pauses() -> None:
    watch, now = Watch(), 1000.0

    def reap(code: int, lived_s: float) -> None:
        ended = SimpleNamespace(exit_code=code, adopts=True, started_at=now - lived_s, attempt=1)
        watch._started[1] = ended  # type: ignore[assignment]
        watch._reap(now)

    for pause_s in (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0):
        # The process reads for a while before it reaches the record that kills it.
        reap(1, lived_s=20.0)
        assert watch._must_wait(1, now + pause_s - 0.1) and not watch._must_wait(1, now + pause_s)
    reap(-signal.SIGKILL, lived_s=1.0)
    assert not watch._must_wait(1, now)
    reap(1, lived_s=20.0)
    assert not watch._must_wait(1, now + 5.0)
    reap(1, lived_s=3600.0)
    assert not watch._must_wait(1, now)


def test_it_marks_a_run_lost_that_fell_silent_on_another_host(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = hold(run)
    clock = SimpleNamespace(monotonic=lambda: seconds)
    monkeypatch.setattr("trainer.scheduler.watch.time", clock)
    watch = Watch()
    states = []
    for seconds in range(100, 126, 2):
        if seconds == 106:
            renew_lease(lease)
        watch.tick()
        states.append(Run.objects.values_list("state", flat=True).get())
    assert states.index(RunState.LOST) == (106 + 12 - 100) / 2
    assert set(states[states.index(RunState.LOST) :]) == {RunState.LOST}
    assert told(run)[-1] == ("lost", "No heartbeat from the training host for 12 s.")


def test_it_calls_nobody_lost_who_waits_to_write_as_it_does(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """On SQLite one writer blocks all other writers, but no reader."""
    hold(run)
    clock = SimpleNamespace(seconds=100.0, writer_s=5.0)
    atomic = transaction.atomic

    def waiting(*arguments: Any, **options: Any) -> Any:
        clock.seconds += clock.writer_s
        return atomic(*arguments, **options)

    monkeypatch.setattr("trainer.scheduler.watch.time", SimpleNamespace(monotonic=lambda: clock.seconds))
    monkeypatch.setattr("trainer.scheduler.watch.transaction", SimpleNamespace(atomic=waiting))
    watch = Watch()
    states = []
    for second in range(100, 150, 2):
        clock.seconds = float(second)
        clock.writer_s = 5.0 if second < 140 else 0.0
        watch.tick()
        states.append(Run.objects.values_list("state", flat=True).get())
    assert states.index(RunState.LOST) == 20


def test_it_folds_what_a_dead_run_left_and_leaves_a_live_one_alone(run: Run) -> None:
    other = Run.objects.create(project=run.project, name="live", state=RunState.RUNNING)
    long_ago = timezone.now() - timedelta(minutes=6)
    for each in (run, other):
        feed.append(each.pk, metrics_event([Block(steps=[1], times=[1.0], values={"loss": [0.5]})]))
    Run.objects.filter(pk=run.pk).update(state=RunState.LOST, heartbeat_at=long_ago)
    Run.objects.filter(pk=other.pk).update(heartbeat_at=long_ago)
    Watch().tick()
    assert list(StoredEvent.objects.filter(kind="metrics").values_list("run", flat=True)) == [other.pk]
    assert read_points(run.pk, "loss")[1].values.tolist() == [0.5]


def test_the_command_queues_for_a_host(run: Run) -> None:
    def make(*options: str) -> None:
        call_command("create_run", "--project", "lab", *options, stdout=StringIO())

    recipe = Recipe.objects.get()
    recipe.source_sha256 = source_sha256("digits")
    recipe.save()
    make("--recipe", "digits", "--queue", "--host", "gpu1")
    assert Run.objects.filter(state=RunState.QUEUED, queued_host="gpu1").count() == 1
    for options, words in (
        (("--recipe", "digits", "--host", "gpu1"), "host: only valid with --queue"),
        (("--queue",), "queue: This run trains your own script"),
    ):
        with pytest.raises(CommandError, match=words):
            make(*options)
    assert Run.objects.count() == 2, "what is refused leaves no run"
