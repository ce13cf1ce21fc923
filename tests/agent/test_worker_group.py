"""The processes of all ranks: whose end ends the others, and which processes are left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from steersman.agent.folders import WorkerProcess, any_worker_lives, close_attempt, record_exit, recorded_exit
from steersman.agent.journals.consoles import console_path
from steersman.agent.launch import deadlines, torchrun
from steersman.agent.launch.torchrun import Launch, announce, join
from steersman.agent.launch.worker_group import Worker, WorkerGroup
from steersman.agent.supervise.interrupts import Interrupts
from steersman.files.journal import JournalWriter
from steersman.records.kinds import AnyOutcome, EndRecord
from tests.support.stack import ROOT, wait_for
from trainer.control.exit_status import judge_end, name_rank

SLEEPING = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
PARENT = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEPING!r}]); time.sleep(600)"


class Started:
    """Starts ranks as the supervisor does, and cleans up after them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def worker(self, rank: int, code: str, *, own: bool = True) -> Worker:
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        self.processes.append(process)
        if code == STUBBORN:
            assert process.stdout is not None
            process.stdout.readline()
        worker = WorkerProcess.of(process.pid)
        worker.record(self.folder, rank)
        return Worker(rank, worker, process if own else None)

    def say(self, rank: int, outcome: AnyOutcome, error: str = "") -> None:
        JournalWriter(self.folder, rank).append(EndRecord(step=1, outcome=outcome, error=error, traceback=""))


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    given = Started(tmp_path)
    yield given
    for process in given.processes:
        process.kill()
        process.wait()


def ended(group: WorkerGroup) -> None:
    wait_for(lambda: not group.poll_alive(), "all ranks to end", 60)


def test_ranks_that_finish_one_after_the_other_end_nobody(started, tmp_path):
    group = WorkerGroup(tmp_path, [started.worker(0, "import time; time.sleep(0.3)"), started.worker(1, "pass")])
    ended(group)
    assert [worker.code for worker in group.workers] == [0, 0] and group.root_cause().rank == 0


def test_a_rank_that_dies_ends_the_others_and_is_named(started, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "KILL_AFTER_S", 600.0)
    group = WorkerGroup(tmp_path, [started.worker(rank, STUBBORN if rank == 1 else SLEEPING) for rank in range(3)])
    assert group.poll_alive()
    started.processes[2].kill()
    wait_for(lambda: group.poll_alive() and started.processes[0].poll() is not None, "SIGTERM to end a rank")
    monkeypatch.setattr(deadlines, "KILL_AFTER_S", 0.0)
    ended(group)
    assert [worker.code for worker in group.workers] == [-signal.SIGTERM, -signal.SIGKILL, -signal.SIGKILL]
    root_cause = group.root_cause()
    end = name_rank(
        judge_end(root_cause.code, group.end_record(root_cause), interrupted=False, stopped=False), root_cause.rank
    )
    assert (end.outcome, end.error, end.signal) == ("failed", "Rank 2 was ended by SIGKILL.", "SIGKILL")


def test_the_first_word_names_the_rank_that_broke_and_not_those_that_lost_it(started, tmp_path):
    group = WorkerGroup(tmp_path, [started.worker(rank, "import sys; sys.exit(1)") for rank in range(3)])
    started.say(1, "failed", "ValueError: mine")
    time.sleep(0.01)
    started.say(0, "failed", "RuntimeError: connection closed by peer")
    started.say(2, "failed", "RuntimeError: connection closed by peer")
    ended(group)
    end = group.end_record(group.root_cause())
    assert group.root_cause().rank == 1 and end is not None and end.error == "ValueError: mine"


def test_a_rank_that_died_without_a_word_is_named_and_not_those_that_lost_it(started, tmp_path):
    for rank in range(3):
        started.worker(rank, "pass", own=False)
        started.processes[rank].wait()
    started.say(0, "failed", "RuntimeError: connection closed by peer")
    started.say(2, "failed", "RuntimeError: connection closed by peer")
    group = WorkerGroup.adopted(tmp_path, 3)
    ended(group)
    assert group.root_cause().rank == 1


def test_what_a_dead_rank_started_dies_with_it(started, tmp_path):
    group = WorkerGroup(tmp_path, [started.worker(0, PARENT)])
    process_group = started.processes[0].pid
    assert group.poll_alive()
    children = wait_for(lambda: _of_group(process_group) - {process_group}, "the child of the rank")
    started.processes[0].kill()
    ended(group)
    wait_for(lambda: not children & _of_group(process_group), "the child to end")


def test_sigterm_behind_the_last_word_is_no_failure(started, tmp_path):
    group = WorkerGroup(tmp_path, [started.worker(0, SLEEPING)])
    started.say(0, "stopped")
    group.kill(signal.SIGTERM)
    ended(group)
    assert group.workers[0].code == 0


def test_adopted_ranks_are_judged_by_their_word_and_by_what_was_written_of_their_end(started, tmp_path):
    for rank in range(3):
        started.worker(rank, "pass", own=False)
        started.processes[rank].wait()
    started.say(0, "finished")
    record_exit(tmp_path, 1, 0)
    group = WorkerGroup.adopted(tmp_path, 4)
    ended(group)
    assert group.root_cause().rank == 2
    assert [worker.code for worker in group.workers] == [None, 0, None, None]


def test_a_rank_that_lives_keeps_its_attempt_open(started, tmp_path):
    worker = started.worker(2, SLEEPING)
    assert any_worker_lives(tmp_path)
    assert worker.process is not None
    worker.process.kill()
    worker.process.wait()
    assert not any_worker_lives(tmp_path)
    code = (
        "import sys; from pathlib import Path; from steersman.files.locks import try_lock; from steersman.run import "
        f"worker_lock_path; held = try_lock(worker_lock_path(Path({str(tmp_path)!r}), 1)); print(flush=True); "
        "sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    started.processes.append(holder)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert not close_attempt(tmp_path, 3) and not (tmp_path / "closed").exists()
    holder.kill()
    holder.wait()
    assert close_attempt(tmp_path, 3) and (tmp_path / "closed").exists()


def test_a_rank_of_torchrun_whose_leader_died_does_not_wait_for_torchrun(started, tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "KILL_AFTER_S", 0.3)
    folder = tmp_path / "attempt"
    folder.mkdir()
    launch = Launch("key", 1, 2)
    announce(tmp_path, 7, launch, folder, [sys.executable, "-c", STUBBORN], {})
    of_leader = Started(folder)
    of_leader.worker(0, SLEEPING)
    assert not torchrun.leader_has_failed(folder)

    def kill_leader() -> None:
        console = console_path(folder, 1)
        wait_for(lambda: console.exists() and console.stat().st_size, "the rank to ignore signals")
        of_leader.processes[0].kill()
        of_leader.processes[0].wait()

    threading.Thread(target=kill_leader).start()
    assert join(tmp_path, ROOT, 7, launch, Interrupts(), os.environ) == 1
    assert recorded_exit(folder, 1) == -signal.SIGKILL
    of_leader.say(0, "finished")
    assert not torchrun.leader_has_failed(folder)


def _of_group(group: int) -> set[int]:
    found = set()
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
        except (OSError, psutil.Error):
            continue
    return found
