"""Ranks on several nodes: which end is the root cause, and how it is reported."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steersman.agent.folders import WorkerProcess, record_exit
from steersman.agent.launch import deadlines
from steersman.agent.launch.worker_group import Worker, WorkerGroup
from steersman.files.journal import JournalWriter
from steersman.records.kinds import EndRecord
from tests.support.node_lines import HERE, SLEEPING, STUBBORN, Nodes
from tests.support.stack import wait_for
from trainer.control.exit_status import judge_end, name_rank


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    given = Nodes(tmp_path)
    yield given
    given.close()


def group(nodes: Nodes, own: subprocess.Popen[bytes]) -> WorkerGroup:
    assert nodes.server is not None
    workers = [Worker(0, WorkerProcess.of(own.pid), own)]
    return WorkerGroup(
        nodes.folder, [*workers, *(Worker(each.rank, None, elsewhere=each) for each in elsewhere(nodes))]
    )


def elsewhere(nodes: Nodes) -> list[Any]:
    assert nodes.server is not None
    return list(nodes.server.elsewhere.values())


def end_of(found: WorkerGroup) -> tuple[str, str]:
    root_cause = found.root_cause()
    end = judge_end(root_cause.code, found.end_record(root_cause), interrupted=False, stopped=False)
    return end.outcome, name_rank(end, root_cause.rank).error


def test_a_rank_that_dies_on_another_node_ends_all_and_is_named(nodes, monkeypatch):
    nodes.begin(3, [0])
    post = nodes.client(1, [1, 2], 3)
    first = nodes.worker(0, SLEEPING, nodes.folder)
    second, third = (nodes.worker(rank, SLEEPING, post.folder) for rank in (1, 2))
    post.start()
    whole = group(nodes, first)
    assert whole.poll_alive()
    third.kill()
    third.wait()
    # As the `train` of that rank does.
    record_exit(post.folder, 2, -signal.SIGKILL)
    second.wait(60)
    record_exit(post.folder, 1, -signal.SIGTERM)
    wait_for(lambda: not whole.poll_alive(), "the end of all", 60)
    assert first.returncode == -signal.SIGTERM
    assert [worker.code for worker in whole.workers] == [-signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL]
    assert end_of(whole) == ("failed", "Rank 2 was ended by SIGKILL.")
    wait_for(lambda: post.has_reported_all, "the word that all was heard")


def test_the_last_word_of_a_rank_elsewhere_comes_with_its_end(nodes):
    """Its journal may not have arrived yet."""
    nodes.begin(2, [0])
    post = nodes.client(1, [1], 2)
    first = nodes.worker(0, SLEEPING, nodes.folder)
    second = nodes.worker(1, "pass", post.folder)
    JournalWriter(nodes.folder, 1).append(EndRecord(step=1, outcome="failed", error="ValueError: mine", traceback="t"))
    second.wait()
    record_exit(post.folder, 1, 1)
    post.start()
    whole = group(nodes, first)
    wait_for(lambda: not whole.poll_alive(), "the end of all", 60)
    for path in nodes.folder.glob("journal-0001*"):
        path.unlink()
    assert end_of(whole) == ("failed", "Rank 1: ValueError: mine")


def test_what_the_first_node_wants_to_end_ends_on_all(nodes, monkeypatch):
    nodes.begin(2, [0])
    post = nodes.client(1, [1], 2)
    first, second = nodes.worker(0, STUBBORN, nodes.folder), nodes.worker(1, STUBBORN, post.folder)
    post.start()
    whole = group(nodes, first)
    whole.kill(signal.SIGKILL)
    assert second.wait(60) == -signal.SIGKILL
    record_exit(post.folder, 1, -signal.SIGKILL)
    wait_for(lambda: not whole.poll_alive(), "the end of all", 60)


def test_a_node_that_is_gone_is_lost_and_both_sides_end_what_is_theirs(nodes, monkeypatch):
    nodes.begin(3, [0])
    post = nodes.client(1, [1, 2], 3)
    first = nodes.worker(0, SLEEPING, nodes.folder)
    others = [nodes.worker(rank, STUBBORN, post.folder) for rank in (1, 2)]
    post.start()
    whole = group(nodes, first)
    assert whole.poll_alive()
    monkeypatch.setattr(deadlines, "LOST_AFTER_S", 0.3)
    monkeypatch.setattr(deadlines, "KILL_LOST_AFTER_S", 0.2)
    nodes.line.close()
    wait_for(lambda: not whole.poll_alive(), "the end of all", 60)
    assert [other.wait(60) for other in others] == [-signal.SIGKILL, -signal.SIGKILL]
    assert end_of(whole) == ("failed", "Rank 1: The connection to the node of ranks 1 to 2 is lost.")
    assert post.is_lost
    wait_for(lambda: post.has_reported_all, "the end of the node", 60)
    with pytest.raises(OSError):
        post.connect(HERE, nodes.server.port)


def test_a_node_whose_first_node_says_that_it_is_over_ends_its_ranks_at_once(nodes, monkeypatch):
    monkeypatch.setattr(deadlines, "LOST_AFTER_S", 3600.0)
    nodes.begin(2, [0])
    post = nodes.client(1, [1], 2)
    worker = nodes.worker(1, SLEEPING, post.folder)
    post.start()
    nodes.server.close()
    assert worker.wait(60) == -signal.SIGTERM


def test_a_node_that_never_joins_is_named(nodes, monkeypatch):
    monkeypatch.setattr(deadlines, "JOINED_AFTER_S", 0.2)
    nodes.begin(2, [0])
    whole = group(nodes, nodes.worker(0, SLEEPING, nodes.folder))
    wait_for(lambda: not whole.poll_alive(), "the end of all", 60)
    assert end_of(whole) == ("failed", "Rank 1: The node of this rank has not joined the training within 0 s.")
