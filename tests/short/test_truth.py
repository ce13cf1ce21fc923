"""The reported state of a run is true: stalled, lost, recovered, adopted, interrupted, superseded, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
import pytest

from runs.models import JournalOffset, Project, Run, StoredEvent
from runs.recording.lifecycle import Holder, open_attempt
from runs.recording.liveness import life_after
from steersman.agent.journals.tail import last_record
from steersman.agent.launch.ended_file import record_ended
from steersman.agent.supervise.interrupts import Interrupts
from steersman.files.journal import JournalWriter, segment_path
from steersman.files.mailbox import Mailbox
from steersman.messages.ended import Ended
from steersman.records.kinds import EndRecord, NoteRecord
from steersman.silence import OrphanWatch
from tests.control.test_train import is_gone
from tests.support.locked_database import suspend_between_writes, write_locked
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_check, run_row, wait_for
from trainer.control import train_command
from trainer.control.lease import CannotTrain, store_leftovers

QUIET = str(ROOT / "tests" / "trainings" / "quiet.py")


# No longer watched


def test_a_worker_is_alone_after_the_limit_by_its_own_clock(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path)
    orphan_watch = OrphanWatch(mailbox, 600.0)
    start = orphan_watch._clock.ticked_at
    assert not any(orphan_watch.poll(start + second)[1] for second in range(600))
    mailbox.heartbeat()
    assert not any(orphan_watch.poll(start + 600.0 + second)[1] for second in range(600))
    assert orphan_watch.poll(start + 1300.0)[1]


def test_a_host_that_slept_is_no_lonely_worker(tmp_path: Path) -> None:
    orphan_watch = OrphanWatch(Mailbox(tmp_path), 600.0)
    assert not orphan_watch.poll(orphan_watch._clock.ticked_at + 30_000.0)[1]


# How runs end


def test_the_last_word_is_found_behind_what_was_stored(tmp_path: Path) -> None:
    assert last_record(tmp_path, 0) is None
    writer = JournalWriter(tmp_path)
    writer.append(NoteRecord(step=1, text="COX"))
    assert last_record(tmp_path, 0) is None
    writer.append(EndRecord(step=7, outcome="finished", error="", traceback="x" * 5000))
    for step in range(100):
        writer.append(NoteRecord(step=step, text="of another thread"))
    found = last_record(tmp_path, 0)
    assert found is not None and found.outcome == "finished"


def test_an_end_that_was_read_before_its_reader_died_is_not_forgotten(db: None, tmp_path: Path) -> None:
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")
    lease = open_attempt(run.pk, Holder("here", "boot", 1), 0, command_line=[])
    writer = JournalWriter(tmp_path)
    writer.append(EndRecord(step=7, outcome="finished", error="", traceback=""))
    size = segment_path(tmp_path, 0, 0).stat().st_size
    JournalOffset.objects.create(attempt_id=lease.attempt_id, offset=size, next_number=1)
    assert store_leftovers(lease, tmp_path).outcome == "finished"


@pytest.mark.parametrize(
    ("ended", "found"),
    [
        (Ended(rank=0, code=-11), ("failed", None, "SIGSEGV")),
        (Ended(rank=0, code=3, last_line="out of ideas"), ("failed", 3, "")),
        (Ended(rank=0, code=0), ("finished", 0, "")),
        (Ended(rank=0, code=-15, scheduler="preempted"), ("stopped", None, "SIGTERM")),
        (Ended(rank=0, code=-9, scheduler="out_of_time"), ("failed", None, "SIGKILL")),
        (Ended(rank=0, code=None, scheduler="requeued"), ("stopped", None, "")),
        (Ended(rank=0, code=0, stopped=True, scheduler="out_of_time"), ("stopped", 0, "")),
        (Ended(rank=0, code=1, stopped=True, scheduler="node_failed"), ("failed", 1, "")),
        (Ended(rank=0, code=0, stopped=True), ("stopped", 0, "")),
        (Ended(rank=0, code=-9, interrupted=True), ("stopped", None, "SIGKILL")),
    ],
    ids=str,
)
def test_an_end_that_only_a_killed_supervisor_saw_is_stored_by_the_next(
    db: None, tmp_path: Path, ended: Ended, found: tuple[str, int | None, str]
) -> None:
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")
    lease = open_attempt(run.pk, Holder("here", "boot", 1), 0, command_line=[])
    record_ended(tmp_path, ended)
    end = store_leftovers(lease, tmp_path)
    assert (end.outcome, end.exit_code, end.signal) == found and ended.last_line in end.error
    assert ended.scheduler.replace("_", " ") in end.error


def test_what_the_dead_left_brings_no_run_back_to_life(db: None, tmp_path: Path) -> None:
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")
    lease = open_attempt(run.pk, Holder("here", "boot", 1), 0, command_line=[])
    JournalWriter(tmp_path).append(NoteRecord(step=1, text="last"))
    Run.objects.update(state="lost")
    end = store_leftovers(lease, tmp_path)
    assert (end.outcome, Run.objects.get().state) == ("failed", "lost")
    assert StoredEvent.objects.filter(kind="log", frame__contains="last").exists()


def test_life_is_unreachable_before_it_is_silent() -> None:
    assert [life_after(silent_s) for silent_s in (0.0, 5.9, 6.0, 11.9, 12.0)] == [
        "alive", "alive", "unreachable", "unreachable", "silent"
    ]  # fmt: skip


# Signals


@pytest.fixture
def handlers() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    kept = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_signals_become_plain_flags(handlers: None) -> None:
    interrupts = Interrupts("usr2")
    interrupts.install()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert (interrupts.stops, interrupts.saves) == (1, 2)
    os.kill(os.getpid(), signal.SIGINT)
    assert (interrupts.stops, interrupts.name) == (2, "SIGINT")


def test_a_warning_that_is_none_is_refused() -> None:
    with pytest.raises(
        ValueError, match="STEERSMAN_STOP_SIGNAL: 'KILL' is not supported; give one of USR1, USR2, XCPU"
    ):
        Interrupts("KILL")


def test_a_stop_before_the_training_has_begun_opens_no_attempt(
    handlers: None, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")
    prepare = train_command._prepare

    def interrupted(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return prepare(*arguments)

    monkeypatch.setattr(train_command, "_prepare", interrupted)
    with pytest.raises(CannotTrain, match="SIGTERM was received before") as refused:
        train_command.train(train_command.Options(run_id=run.pk, quiet=True, script=("python", "-c", "1")))
    assert refused.value.exit_code == 130
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("created", 0)


# The real process


class Training:
    """A run of the quiet worker: `tell` changes what the worker does."""

    def __init__(self, stack: Stack, folder: Path, **variables: str) -> None:
        self.stack = stack
        self.told = folder / "told"
        self.tell("step")
        self.run_id = create_run(stack)
        self.supervisor: subprocess.Popen[bytes] = stack.train(
            self.run_id, "--quiet", "--", QUIET, str(self.told), **variables
        )
        wait_for(lambda: self.row["step"] > 3, lambda: f"points\n{stack.log()}")
        worker = stack.worker_pid(self.run_id)
        assert worker is not None
        self.worker = worker

    def tell(self, what: str) -> None:
        self.told.write_text(what)

    @property
    def row(self) -> dict[str, Any]:
        return run_row(self.stack, self.run_id)

    def states(self) -> list[str]:
        """Return the states of the run, in order."""
        told = [event["state"] for event in events(self.stack, self.run_id, "status")]
        return [state for state, _ in groupby(told)]

    def stalls(self) -> list[bool]:
        return [event["stalled"] for event in events(self.stack, self.run_id, "stall")]

    def wait_for_heartbeats(self, count: int = 2) -> None:
        heartbeat = self.row["heartbeat"]
        wait_for(lambda: self.row["heartbeat"] > heartbeat + count, "heartbeats")

    def end(self) -> None:
        self.tell("end")
        assert self.supervisor.wait(60) == 0, self.stack.log()


def test_stalled_is_told_and_is_neither_paused_nor_expected_nor_unreachable(
    offline_stack: Stack, tmp_path: Path
) -> None:
    training = Training(offline_stack, tmp_path, STEERSMAN_STALLED_S="3")
    usual = wait_for(lambda: training.row["usual_step_s"], "the usual step")
    assert usual > 0.009

    # For longer than a silence may be that is not expected.
    training.tell("expect")
    training.wait_for_heartbeats(4)
    assert training.stalls() == []
    training.tell("step")
    step = training.row["step"]
    wait_for(lambda: training.row["step"] > step, "a step")

    training.tell("silent")
    wait_for(lambda: training.row["stalled_since"], "the stall")
    assert training.row["state"] == "running"
    training.wait_for_heartbeats()
    training.tell("step")
    wait_for(lambda: training.stalls() == [True, False], "the end of the stall")
    assert training.row["stalled_since"] is None

    # A suspended worker is stalled too: its supervisor sends heartbeats, so the run is not declared lost.
    os.kill(training.worker, signal.SIGSTOP)
    wait_for(lambda: training.stalls() == [True, False, True], "the second stall")
    os.kill(training.worker, signal.SIGCONT)
    wait_for(lambda: training.stalls()[-1] is False, "the end of the second stall")
    assert training.states() == ["running"]
    training.end()


def test_a_lost_run_heals_to_what_its_worker_said_last_with_all_its_points(
    offline_stack: Stack, tmp_path: Path
) -> None:
    training = Training(offline_stack, tmp_path)
    suspend_between_writes(offline_stack, training.run_id, training.supervisor.pid)
    lost = "UPDATE runs_run SET state = 'lost', is_paused = ? WHERE id = ?"
    for paused, state in ((False, "running"), (True, "paused")):
        rows(offline_stack, lost, paused, training.run_id)
        os.kill(training.supervisor.pid, signal.SIGCONT)
        wait_for(lambda state=state: training.row["state"] == state, "the run to heal")  # type: ignore[misc]
    training.end()
    remarks = [event["remark"] for event in events(offline_stack, training.run_id, "status")]
    assert remarks.count("the training host sends heartbeats again") == 2
    blocks = [block for event in events(offline_stack, training.run_id, "metrics") for block in event["blocks"]]
    steps = [step for block in blocks for step in block["steps"]]
    assert steps == list(range(1, steps[-1] + 1))


def test_a_worker_that_nobody_adopts_saves_and_ends(offline_stack: Stack, tmp_path: Path) -> None:
    training = Training(offline_stack, tmp_path, STEERSMAN_UNADOPTED_S="3")
    # The supervisor is suspended for longer than the limit; resumed, its run trains on.
    os.kill(training.worker, signal.SIGSTOP)
    training.wait_for_heartbeats(4)
    os.kill(training.worker, signal.SIGCONT)
    step = training.row["step"]
    wait_for(lambda: training.row["step"] > step + 50, "steps")
    # The same holds while the supervisor waits for the database.
    mailbox = Mailbox(offline_stack.data / "runs" / str(training.run_id) / "attempts" / "1")
    with write_locked(offline_stack, training.run_id):
        heartbeats = mailbox.heartbeats
        wait_for(lambda: mailbox.heartbeats > heartbeats + 3, "heartbeats without the database")
    assert not is_gone(training.worker)
    training.supervisor.kill()
    training.supervisor.wait()
    wait_for(lambda: is_gone(training.worker), "the worker to end by itself")
    offline_stack.manage("train", "--run-id", str(training.run_id), "--adopt", "--quiet")
    assert training.row["state"] == "stopped"
    shown = [line["text"] for event in events(offline_stack, training.run_id, "log") for line in event["lines"]]
    assert any("This training has had no supervisor" in line for line in shown)


def test_a_signal_asks_for_a_checkpoint_and_a_batch_systems_warning_for_a_stop(
    offline_stack: Stack, tmp_path: Path
) -> None:
    bound = tmp_path / "bound"
    bound.write_text("512")
    training = Training(offline_stack, tmp_path, STEERSMAN_STOP_SIGNAL="USR2", STEERSMAN_JOURNAL_MIB_FILE=str(bound))
    # The training process reads this setting, whichever way the supervisor received it.
    assert psutil.Process(training.worker).environ()["STEERSMAN_JOURNAL_MIB"] == "512"
    training.supervisor.send_signal(signal.SIGUSR1)
    commands = "SELECT kind, author_name, state FROM runs_command WHERE run_id = ? ORDER BY sent_at"
    wait_for(lambda: [each["state"] for each in rows(offline_stack, commands, training.run_id)] == ["applied"], "it")
    training.supervisor.send_signal(signal.SIGUSR2)
    assert training.supervisor.wait(60) == 0
    assert [tuple(each.values()) for each in rows(offline_stack, commands, training.run_id)] == [
        ("save_checkpoint", "SIGUSR1", "applied"),
        ("stop", "SIGUSR2", "applied"),
    ]
    assert training.row["state"] == "stopped"


def test_an_overtaken_owner_wakes_to_leave_its_history_alone_and_its_worker_cannot_save(
    offline_stack: Stack, tmp_path: Path
) -> None:
    training = Training(offline_stack, tmp_path)
    folder = offline_stack.data / "runs" / str(training.run_id) / "attempts" / "1"
    suspend_between_writes(offline_stack, training.run_id, training.supervisor.pid, training.worker)
    stolen = "UPDATE runs_run SET attempt = attempt + 1 WHERE id = ?"
    rows(offline_stack, stolen, training.run_id)
    before, logged = training.row, len(events(offline_stack, training.run_id, "metrics"))
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    # Commands that arrived during the suspension are not passed on.
    training.supervisor.send_signal(signal.SIGUSR1)
    os.kill(training.supervisor.pid, signal.SIGCONT)
    assert training.supervisor.wait(60) == 4
    wait_for(lambda: is_gone(training.worker), "the suspended worker to be killed")
    # Only the numbers of the events of its history may change.
    assert {**training.row, "last_seq": before["last_seq"]} == before
    assert not rows(offline_stack, "SELECT * FROM runs_command WHERE run_id = ?", training.run_id)
    told = events(offline_stack, training.run_id, "metrics")[logged:]
    assert all(event["attempt"] == 1 for event in told)
    (attempt,) = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ?", training.run_id)
    assert (attempt["outcome"], attempt["signal"]) == ("failed", "SIGKILL")
    changed = {path.name for path, content in kept.items() if path.read_bytes() != content}
    assert changed <= {"mailbox"}, "its heartbeat alone may come before it has asked"
    assert not (folder / "commands.jsonl").exists()
    assert not (folder / "checkpoints").exists()


def test_viewers_are_told_of_what_was_done_to_a_run_and_of_nothing_else() -> None:
    """The short form of `python -m tests.chaos.truth`."""
    outcome = run_check("truth", "--loaded-s", "2", "--repeats", "1")
    names = ("false_lost", "steps_missed", "points_lost")
    assert {name: outcome[name] for name in names} == dict.fromkeys(names, 0), outcome
