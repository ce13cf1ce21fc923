"""Ranks on several nodes: messages between them that arrive late, twice or not at all, and the reaction of each end.

The nodes here are folders of one process. The connection between them can be slow, cut, or gone.
"""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steersman.agent.launch import node_client
from steersman.agent.launch.node_client import NodeClient, NodeRefused
from steersman.agent.launch.node_connection import NodeConnection, listen, proof
from steersman.agent.launch.node_server import MOST_UNAUTHENTICATED, NodeServer
from steersman.agent.launch.remote_nodes import RemoteNode
from steersman.agent.machine.sampler import Sample
from steersman.files.locks import try_lock
from steersman.ranked_run import RankedRun
from steersman.ranks.barrier import (
    BARRIER,
    BARRIER_SEEN,
    DECISION_COUNT,
    END_FAILED,
    NODES,
    REMOTE,
    ROW_ARRIVED,
    ROW_BOUNDARY,
    ROW_ENDED,
    ROW_EPOCH,
    ROW_PID,
    ROW_REQUESTS,
    ROW_STEP,
    ROW_VOTES,
    PeerLost,
    RankBarrier,
    open_page,
    row_of,
)
from steersman.records.kinds import OutcomeRecord
from steersman.records.posted import PostedCommand
from steersman.run import worker_lock_path
from tests.steersman.rank_threads import Ranks, records, uneven
from tests.support.node_lines import HERE, Nodes
from tests.support.stack import wait_for


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    given = Nodes(tmp_path)
    yield given
    given.close()


class RanksOfNodes(Ranks):
    """Rank 0 on the first node, two more on another one."""

    def __init__(
        self, nodes: Nodes, points: int, pause_s: Callable[[int], float], delay_s: Callable[[], float]
    ) -> None:
        self._server = nodes.begin(3, [0], delay_s)
        self._post = nodes.client(1, [1, 2], 3)
        super().__init__(nodes.folder, 3, points, pause_s)
        self._post.start()

    def _run(self, rank: int, count: int) -> RankedRun:
        node = self._post.folder if rank else None
        lock = try_lock(worker_lock_path(node or self.folder, rank))
        assert lock is not None
        return RankedRun(self.folder, rank, lock, count, node)


def test_commands_take_effect_at_the_same_step_however_slow_the_line_is(nodes):
    """For each command, the ranks of the other node are far ahead of the leader's data about them."""
    rng = random.Random(1)
    slow = random.Random(2)
    pace = uneven(3)
    with RanksOfNodes(nodes, 1_000_000, lambda rank: pace(0) if rank else 0.002, lambda: 0.02 * slow.random()) as ranks:
        for number in range(12):
            time.sleep(rng.choice((0.0, 0.0, 0.05)))
            ranks.set_rate(f"c{number}", round(rng.random(), 6))
        ranks.outcome("c11")
        ranks.fails_on = 2
        ranks.set_rate("bad", 0.125)
        assert ranks.outcome("bad")["reason"].startswith("Rank 2: ")
        ranks.post("pause", "pause")
        at = ranks.outcome("pause")["step"]
        ranks.set_rate("while", 0.25)
        assert ranks.outcome("while")["step"] == at
        ranks.post("resume", "resume")
        ranks.outcome("resume")
        ranks.runs[1].request_stop()
    assert not ranks.errors, ranks.errors
    assert ranks.seen[0] == ranks.seen[1] == ranks.seen[2] and ranks.seen[0][-1][2]
    outcomes = ranks.outcomes()
    assert {each["state"] for name, each in outcomes.items() if name != "bad"} == {"applied"}
    assert {each["ranks"] for name, each in outcomes.items() if name != "bad"} == {3}
    changes = {step: value for step, value, _ in ranks.seen[2]}
    assert changes[at] == 0.25
    assert (nodes.folder / "decisions.jsonl").read_bytes() == (ranks._post.folder / "decisions.jsonl").read_bytes()


def test_a_line_that_is_cut_again_and_again_loses_and_doubles_nothing(nodes):
    with RanksOfNodes(nodes, 1_000_000, uneven(4), lambda: 0.001) as ranks:
        for number in range(10):
            ranks.set_rate(f"c{number}", (number + 1) / 16)
            if number % 3 == 0:
                nodes.line.cut()
            ranks.outcome(f"c{number}")
        nodes.line.cut()
        ranks.post("stop", "stop")
    assert not ranks.errors, ranks.errors
    assert nodes.line.calls > 4
    assert ranks.seen[0] == ranks.seen[1] == ranks.seen[2]
    assert {value for _, value, _ in ranks.seen[1]} >= {number / 16 for number in range(1, 11)}


def test_a_barrier_that_a_node_does_not_see_is_given_up_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERSMAN_HOLD_TIMEOUT_S", "0.2")
    server = NodeServer(tmp_path, 2, [0], 2, HERE)  # not started yet
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    run = RankedRun(tmp_path, 0, lock, 2)
    page = open_page(tmp_path, 2)
    page[row_of(1) + ROW_PID] = REMOTE
    run._mailbox.post(PostedCommand(id="c", command="note", arguments={}))
    assert not run.stopping
    (outcome,) = [record for record in records(tmp_path) if isinstance(record, OutcomeRecord)]
    assert outcome.state == "refused" and outcome.reason.startswith("Not all nodes have answered within 0.2 s")
    last = run._last_barrier
    assert page[BARRIER] == 0
    # No rank has gone farther, but the barrier is a new one: an answer to the earlier one does not count for it.
    page[BARRIER_SEEN] = last
    run._set_barrier()
    assert run._last_barrier > last and page[BARRIER] == 0 and not run.stopping
    server.start().close()


def test_a_training_that_nobody_supervises_ends_where_it_can_tell_the_other_nodes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERSMAN_HOLD_TIMEOUT_S", "0.2")
    monkeypatch.setenv("STEERSMAN_UNADOPTED_S", "0.1")
    open_page(tmp_path, 2)[NODES] = 2
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    run = RankedRun(tmp_path, 0, lock, 2)
    run.request_stop()
    run._words[row_of(1) + ROW_PID] = REMOTE
    with pytest.raises(PeerLost, match="the supervisor that connects the nodes"):
        bool(run.stopping)


def test_nobody_waits_for_a_process_of_another_node_by_its_number(tmp_path):
    barrier = RankBarrier(tmp_path, 0, 2)
    page = open_page(tmp_path, 2)
    page[row_of(1) + ROW_PID] = REMOTE
    barrier.check_peers()
    page[row_of(1) + ROW_ENDED] = END_FAILED
    with pytest.raises(PeerLost, match="rank 1"):
        barrier.check_peers()


def test_the_page_of_another_node_never_shows_an_end_before_the_decisions_that_led_to_it(nodes):
    server = nodes.begin(2, [0])
    page = open_page(nodes.folder, 2)
    post = nodes.client(1, [1], 2)
    there = open_page(post.folder, 2)
    (nodes.folder / "decisions.jsonl").write_text('{"at": 1}\n{"at": 2}\n{"at": 3}\n')
    page[DECISION_COUNT], page[row_of(0) + ROW_ENDED] = 2, END_FAILED
    post.start()
    wait_for(lambda: there[row_of(0) + ROW_ENDED] == END_FAILED, "the end")
    assert there[DECISION_COUNT] == 2
    # The third is written, but was not decided yet.
    assert (post.folder / "decisions.jsonl").read_text() == '{"at": 1}\n{"at": 2}\n'
    there[row_of(1) + ROW_REQUESTS] = 3
    wait_for(lambda: page[row_of(1) + ROW_REQUESTS] == 3, "the call")
    assert server.elsewhere[1].has_joined and page[2] >= 1


class Boards:
    """What a host with this many GPUs reads from them."""

    def __init__(self, boards: int, **values: float) -> None:
        self.boards = boards
        self.values = {name.replace("__", "/").replace("_at_", "."): value for name, value in values.items()}

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take(self) -> Sample:
        taken, self.values = self.values, {}
        return Sample(0.0, taken)


def test_gpus_of_other_nodes_come_behind_those_of_the_nodes_before_them(nodes):
    server = nodes.begin(3, [0])
    second, first = nodes.client(2, [2], 3), nodes.client(1, [1], 3)
    second._sampler = Boards(1, gpu__0__power_w=300.0, host__memory_percent=1.0)
    first._sampler = Boards(2, gpu__0__power_w=100.0, gpu__1_at_3__power_w=200.0)
    second.start()
    wait_for(lambda: server._nodes[2].samples, "the samples of the last node")
    assert server.take_samples(4) == {}
    first.start()
    wait_for(lambda: server._nodes[1].samples, "the samples of the other")
    # Before the number of GPUs on this node is known, no number is final.
    assert server.take_samples(None) == {}
    assert server.take_samples(4) == {"gpu/4/power_w": 100.0, "gpu/5.3/power_w": 200.0, "gpu/6/power_w": 300.0}
    assert server.take_samples(4) == {}


def test_who_does_not_know_the_secret_or_has_no_place_here_is_refused(nodes):
    nodes.begin(3, [0])
    with pytest.raises(OSError):
        nodes.client(1, [1], 3, secret="guessed")
    assert not nodes.server.elsewhere[1].has_joined
    nodes.client(1, [1], 3)
    with pytest.raises(NodeRefused, match="another process"):
        nodes.client(1, [1], 3)
    for ranks in ([1], [0], [3], []):
        with pytest.raises(NodeRefused, match="not part of this attempt"):
            nodes.client(2, ranks, 3)
    nodes.server.elsewhere[1].signal = signal.SIGTERM
    with pytest.raises(NodeRefused, match="ending"):
        nodes.client(2, [2], 3)
    # A node whose connection broke still has to report how its ranks end.
    nodes.clients[0].connect(HERE, nodes.line.port)


def test_whoever_says_nonsense_or_nothing_costs_nobody_anything(nodes):
    server = nodes.begin(2, [0])
    newcomers = [socket.create_connection((HERE, server.port)) for _ in range(4)]
    newcomers[0].sendall(b"x" * 100_000)
    newcomers[1].sendall(b'["no message"]\n')
    newcomers[2].sendall(b'{"proof": 7, "nonce": null, "node": "x"}\n')
    newcomers[3].sendall(b"[" * 4000 + b"\n")
    for newcomer in newcomers:
        newcomer.settimeout(10)
        with suppress(ConnectionResetError):
            while newcomer.recv(1 << 16):
                pass
        newcomer.close()
    nodes.client(1, [1], 2)
    wait_for(lambda: server.elsewhere[1].has_joined, "the node")


def test_strangers_who_wait_keep_no_node_out(nodes):
    """Each is silent for less than the timeout of the greeting."""
    server = nodes.begin(2, [0])
    strangers = []
    for _ in range(MOST_UNAUTHENTICATED):
        strangers.append(socket.create_connection((HERE, server.port)))
        assert strangers[-1].recv(1 << 16), "it is greeted, so it has its place"
    nodes.client(1, [1], 2)
    wait_for(lambda: server.elsewhere[1].has_joined, "the node")
    for stranger in strangers:
        stranger.close()


def test_an_impostor_that_answers_at_the_place_of_the_server_is_told_nothing(nodes, tmp_path):
    server = socket.create_server((HERE, 0))

    def answer() -> None:
        link = NodeConnection(server.accept()[0])
        link.send({"nonce": "n"})
        wait_for(link.receive, "a greeting")
        link.send({"proof": "0" * 64, "refused": ""})

    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(NodeRefused, match="secret"):
        NodeClient(tmp_path, 1, [1], 2, "s").connect(HERE, server.getsockname()[1])
    server.close()


class Noting:
    """Words of a page that record the order of reads and writes."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self.read: list[int] = []
        self.written: list[int] = []

    def __getitem__(self, place: int) -> int:
        self.read.append(place)
        return self.words[place]

    def __setitem__(self, place: int, value: int) -> None:
        self.written.append(place)
        self.words[place] = value


def test_whatever_one_look_misses_a_rank_sees_no_end_before_what_led_to_it(nodes):
    """Reads go backwards from the end, writes go towards it, so it is true wherever a rank writes between two reads."""
    server = NodeServer(nodes.folder, 2, [0], 2, HERE)
    post = NodeClient(nodes.folder, 1, [1], 2, "s")
    here, there = Noting(server._page.words), Noting(post._words)
    server._page.words, post._words = here, there  # type: ignore[assignment]
    own, other = row_of(0), row_of(1)
    (rows,) = post._changed_rows().values()
    server._apply(RemoteNode(1, "", [1]), {"rows": rows})
    order = [other + place for place in (ROW_STEP, ROW_EPOCH, ROW_ARRIVED, ROW_VOTES, ROW_ENDED)]
    assert [place for place in there.read if place in order] == order[::-1]
    assert [place for place in here.written if place in order] == order
    here.read.clear()
    here[DECISION_COUNT] = 1
    (nodes.folder / "decisions.jsonl").write_text("{}\n")
    server._nodes[2] = node = RemoteNode(2, "", [1])
    server._tick()
    assert (
        here.read.index(own + ROW_ENDED)
        < here.read.index(own + ROW_VOTES)
        < here.read.index(BARRIER)
        < here.read.index(DECISION_COUNT)
    )
    node.unsent_rows, node.sent_state = {0}, None
    node.decided = node.decisions_bytes = 0
    post._apply(server._update_for(node, (0, 0, 1)), None)  # type: ignore[arg-type]
    order = [own + ROW_VOTES, DECISION_COUNT, BARRIER, own + ROW_ENDED]
    assert [place for place in there.written if place in order] == order
    server.start().close()


def test_a_node_reports_a_barrier_as_seen_with_how_far_its_ranks_were_then(tmp_path, monkeypatch):
    """A rank that reaches the barrier while it is written may have passed it, and the leader must learn that."""
    server = socket.create_server((HERE, 0))
    post = NodeClient(tmp_path, 1, [1], 2, "s")
    page = open_page(post.folder, 2)
    answers: list[dict[str, Any]] = []

    def run_ahead(seconds: float) -> None:
        page[row_of(1) + ROW_BOUNDARY] = page[BARRIER]

    def answer() -> None:
        link = NodeConnection(server.accept()[0])
        link.send({"nonce": "n"})
        (greeting,) = wait_for(link.receive, "a greeting")
        link.send({"proof": proof("s", "server", ("n", greeting["nonce"]))})
        link.send({"barrier": 7, "left_out": 0, "decided": 0, "decisions": ""})
        answers.extend(wait_for(link.receive, "an answer"))

    monkeypatch.setattr(node_client, "time", SimpleNamespace(sleep=run_ahead, monotonic=time.monotonic))
    answering = threading.Thread(target=answer)
    answering.start()
    post.connect(HERE, server.getsockname()[1])
    answering.join(60)
    (answer,) = answers
    assert answer["barrier_seen"] == 7
    ((rank, (points, *_)),) = answer["rows"]
    assert (rank, points) == (1, 7)
    server.close()


@pytest.mark.parametrize(
    ("address", "bound"), [("127.0.0.1", "127.0.0.1"), ("192.0.2.7", "0.0.0.0"), ("no.such.host.invalid", "0.0.0.0")]
)
def test_it_listens_where_the_others_look_for_it(address, bound):
    listener = listen(address, 1)
    assert listener.getsockname()[0] == bound
    listener.close()


def test_a_name_of_this_host_that_leads_back_to_itself_is_no_place_to_listen(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr("steersman.agent.launch.node_connection.socket.getaddrinfo", lambda *given, **named: found)
    listener = listen("node-0", 1)
    assert listener.getsockname()[0] == "0.0.0.0"
    listener.close()
