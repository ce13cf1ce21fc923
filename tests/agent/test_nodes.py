"""Ranks on several nodes: what is carried between them, late, twice or not at all, and what each end makes of that.

The nodes here are folders of one process, and the line between them one that can be slow, cut, or gone.
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
from steersman.agent.launch.node_client import Outpost, Refused
from steersman.agent.launch.node_connection import Wire, proof
from steersman.agent.launch.node_server import Relay, _Node, listen
from steersman.agent.machine.sampler import Sample
from steersman.files import journal
from steersman.files.locks import try_lock
from steersman.ranked_run import RankedRun
from steersman.ranks.barrier import (
    ARRIVED,
    CALLS,
    DECIDED,
    ELSEWHERE,
    ENDED,
    EPOCH,
    FAILED,
    HOLD,
    KNOWN,
    NODES,
    PID,
    POINTS,
    STEP,
    VOTES,
    Meeting,
    PeerLost,
    open_page,
    row_of,
)
from steersman.run import worker_lock_path
from tests.steersman.test_ranks import Ranks, records, uneven
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
        self._relay = nodes.begin(3, [0], delay_s)
        self._post = nodes.outpost(1, [1, 2], 3)
        super().__init__(nodes.folder, 3, points, pause_s)
        self._post.start()

    def _run(self, rank: int, count: int) -> RankedRun:
        node = self._post.folder if rank else None
        lock = try_lock(worker_lock_path(node or self.folder, rank))
        assert lock is not None
        return RankedRun(self.folder, rank, lock, count, node)


def test_commands_take_effect_at_the_same_step_however_slow_the_line_is(nodes):
    """The ranks of the other node are far ahead of what the leader knows of them, in each command anew."""
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


def test_a_hold_that_a_node_does_not_answer_is_given_up_and_training_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERSMAN_HOLD_TIMEOUT_S", "0.2")
    relay = Relay(tmp_path, 2, [0], 2, HERE)  # carries nothing yet
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    run = RankedRun(tmp_path, 0, lock, 2)
    page = open_page(tmp_path, 2)
    page[row_of(1) + PID] = ELSEWHERE
    run._mailbox.post({"id": "c", "command": "note", "arguments": {}})
    assert not run.stopping
    (outcome,) = [record.fields for record in records(tmp_path) if record.kind == journal.OUTCOME]
    assert outcome["state"] == "refused" and outcome["reason"].startswith("Not all nodes have answered within 0.2 s")
    held = run._held
    assert page[HOLD] == 0
    # Nobody has gone farther, and yet it is another: what a node says of the earlier one is not for it.
    page[KNOWN] = held
    run._hold()
    assert run._held > held and page[HOLD] == 0 and not run.stopping
    relay.start().close()


def test_a_training_that_nobody_supervises_ends_where_it_can_tell_the_other_nodes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERSMAN_HOLD_TIMEOUT_S", "0.2")
    monkeypatch.setenv("STEERSMAN_UNADOPTED_S", "0.1")
    open_page(tmp_path, 2)[NODES] = 2
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    run = RankedRun(tmp_path, 0, lock, 2)
    run.request_stop()
    run._words[row_of(1) + PID] = ELSEWHERE
    with pytest.raises(PeerLost, match="no supervisor"):
        bool(run.stopping)


def test_nobody_waits_for_a_process_of_another_node_by_its_number(tmp_path):
    meeting = Meeting(tmp_path, 0, 2)
    page = open_page(tmp_path, 2)
    page[row_of(1) + PID] = ELSEWHERE
    meeting.check_peers()
    page[row_of(1) + ENDED] = FAILED
    with pytest.raises(PeerLost, match="rank 1"):
        meeting.check_peers()


def test_the_page_of_another_node_never_shows_an_end_before_the_decisions_that_led_to_it(nodes):
    relay = nodes.begin(2, [0])
    page = open_page(nodes.folder, 2)
    post = nodes.outpost(1, [1], 2)
    there = open_page(post.folder, 2)
    (nodes.folder / "decisions.jsonl").write_text('{"at": 1}\n{"at": 2}\n{"at": 3}\n')
    page[DECIDED], page[row_of(0) + ENDED] = 2, FAILED
    post.start()
    wait_for(lambda: there[row_of(0) + ENDED] == FAILED, "the end")
    assert there[DECIDED] == 2
    # The third is written, but was not decided yet.
    assert (post.folder / "decisions.jsonl").read_text() == '{"at": 1}\n{"at": 2}\n'
    there[row_of(1) + CALLS] = 3
    wait_for(lambda: page[row_of(1) + CALLS] == 3, "the call")
    assert relay.elsewhere[1].has_joined and page[2] >= 1


class Boards:
    """What a host with so many GPUs reads of them."""

    def __init__(self, boards: int, **values: float) -> None:
        self.boards = boards
        self.values = {name.replace("__", "/").replace("_at_", "."): value for name, value in values.items()}

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take(self) -> Sample:
        taken, self.values = self.values, {}
        return Sample(0.0, taken)


def test_gpus_of_other_nodes_come_behind_those_of_the_nodes_before_them(nodes):
    relay = nodes.begin(3, [0])
    second, first = nodes.outpost(2, [2], 3), nodes.outpost(1, [1], 3)
    second._sampler = Boards(1, gpu__0__power_w=300.0, host__memory_percent=1.0)
    first._sampler = Boards(2, gpu__0__power_w=100.0, gpu__1_at_3__power_w=200.0)
    second.start()
    wait_for(lambda: relay._nodes[2].samples, "the samples of the last node")
    assert relay.take_samples(4) == {}
    first.start()
    wait_for(lambda: relay._nodes[1].samples, "the samples of the other")
    # Before it is known how many this one has, no number is certain.
    assert relay.take_samples(None) == {}
    assert relay.take_samples(4) == {"gpu/4/power_w": 100.0, "gpu/5.3/power_w": 200.0, "gpu/6/power_w": 300.0}
    assert relay.take_samples(4) == {}


def test_who_does_not_know_the_secret_or_has_no_place_here_is_refused(nodes):
    nodes.begin(3, [0])
    with pytest.raises(OSError):
        nodes.outpost(1, [1], 3, secret="guessed")
    assert not nodes.relay.elsewhere[1].has_joined
    nodes.outpost(1, [1], 3)
    with pytest.raises(Refused, match="another process"):
        nodes.outpost(1, [1], 3)
    for ranks in ([1], [0], [3], []):
        with pytest.raises(Refused, match="none of this attempt"):
            nodes.outpost(2, ranks, 3)
    nodes.relay.elsewhere[1].signal = signal.SIGTERM
    with pytest.raises(Refused, match="ending"):
        nodes.outpost(2, [2], 3)
    # One that was cut off has still to tell how its ranks end.
    nodes.outposts[0].connect(HERE, nodes.line.port)


def test_whoever_says_nonsense_or_nothing_costs_nobody_anything(nodes):
    relay = nodes.begin(2, [0])
    strangers = [socket.create_connection((HERE, relay.port)) for _ in range(4)]
    strangers[0].sendall(b"x" * 100_000)
    strangers[1].sendall(b'["no message"]\n')
    strangers[2].sendall(b'{"proof": 7, "nonce": null, "node": "x"}\n')
    strangers[3].sendall(b"[" * 4000 + b"\n")
    for stranger in strangers:
        stranger.settimeout(10)
        with suppress(ConnectionResetError):
            while stranger.recv(1 << 16):
                pass
        stranger.close()
    nodes.outpost(1, [1], 2)
    wait_for(lambda: relay.elsewhere[1].has_joined, "the node")


def test_an_impostor_that_answers_at_the_place_of_the_relay_is_told_nothing(nodes, tmp_path):
    server = socket.create_server((HERE, 0))

    def answer() -> None:
        wire = Wire(server.accept()[0])
        wire.send({"nonce": "n"})
        wait_for(wire.receive, "a greeting")
        wire.send({"proof": "0" * 64, "refused": ""})

    threading.Thread(target=answer, daemon=True).start()
    with pytest.raises(Refused, match="secret"):
        Outpost(tmp_path, 1, [1], 2, "s").connect(HERE, server.getsockname()[1])
    server.close()


class Noting:
    """Words of a page that note in which order they are read and written."""

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
    """Read from the end back, written towards it: so it holds whenever between two words a rank writes."""
    relay = Relay(nodes.folder, 2, [0], 2, HERE)
    post = Outpost(nodes.folder, 1, [1], 2, "s")
    here, there = Noting(relay._words), Noting(post._words)
    relay._words, post._words = here, there  # type: ignore[assignment]
    own, other = row_of(0), row_of(1)
    (rows,) = post._rows_to_tell().values()
    relay._take(_Node(1, "", [1]), {"rows": rows})
    order = [other + place for place in (STEP, EPOCH, ARRIVED, VOTES, ENDED)]
    assert [place for place in there.read if place in order] == order[::-1]
    assert [place for place in here.written if place in order] == order
    here.read.clear()
    here[DECIDED] = 1
    (nodes.folder / "decisions.jsonl").write_text("{}\n")
    relay._nodes[2] = node = _Node(2, "", [1])
    relay._look()
    assert (
        here.read.index(own + ENDED) < here.read.index(own + VOTES) < here.read.index(HOLD) < here.read.index(DECIDED)
    )
    node.unheard, node.told = {0}, None
    node.decided = node.decisions_bytes = 0
    post._take(relay._news(node, (0, 0, 1)), None)  # type: ignore[arg-type]
    order = [own + VOTES, DECIDED, HOLD, own + ENDED]
    assert [place for place in there.written if place in order] == order
    relay.start().close()


def test_a_node_knows_a_hold_behind_the_look_at_how_far_its_ranks_are(tmp_path, monkeypatch):
    """A rank that reaches it while the word is written may have passed it unaware, and the leader must hear of that."""
    server = socket.create_server((HERE, 0))
    post = Outpost(tmp_path, 1, [1], 2, "s")
    page = open_page(post.folder, 2)
    answers: list[dict[str, Any]] = []

    def run_ahead(seconds: float) -> None:
        page[row_of(1) + POINTS] = page[HOLD]

    def relay() -> None:
        wire = Wire(server.accept()[0])
        wire.send({"nonce": "n"})
        (greeting,) = wait_for(wire.receive, "a greeting")
        wire.send({"proof": proof("s", "relay", ("n", greeting["nonce"]))})
        wire.send({"hold": 7, "left_out": 0, "decided": 0, "decisions": ""})
        answers.extend(wait_for(wire.receive, "an answer"))

    monkeypatch.setattr(node_client, "time", SimpleNamespace(sleep=run_ahead, monotonic=time.monotonic))
    answering = threading.Thread(target=relay)
    answering.start()
    post.connect(HERE, server.getsockname()[1])
    answering.join(20)
    (answer,) = answers
    assert answer["known"] == 7
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
