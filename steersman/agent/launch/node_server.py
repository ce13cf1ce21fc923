"""Connects the nodes of one training: the server on the node of rank 0, beside its supervisor.

The ranks of each node share a page of memory (`steersman.ranks.barrier`). The server sends barriers, decisions, votes
and signals to the other nodes, and writes the rows that it receives of their ranks into the page of this node, so that
the leader reads them like those of local ranks. `node_client` is the other end. Messages contain states, not changes: a
message that is sent twice, after a connection broke, does no harm. No Django, no torch.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import selectors
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steersman.agent.launch import deadlines
from steersman.agent.launch.node_connection import (
    BUSY_FOR_S,
    BUSY_PAUSE_S,
    IDLE_PAUSE_S,
    NodeConnection,
    NodeMessage,
    is_proof,
    listen,
    proof,
)
from steersman.agent.launch.node_page import LeaderPage
from steersman.agent.launch.remote_nodes import RemoteNode, RemoteRank, lost_sentence, take_samples
from steersman.records.kinds import EndRecord
from steersman.records.typed_json import from_fields

logger = logging.getLogger(__name__)

MOST_UNAUTHENTICATED = 64
SERVER_CLOSE_TIMEOUT_S = 2.0


@dataclass(slots=True)
class _Unauthenticated:
    link: NodeConnection
    nonce: str
    since: float
    address: str


class NodeServer:
    """Accepts the other nodes of a launch; `elsewhere` has the state of their ranks."""

    def __init__(self, folder: Path, ranks: int, own: Sequence[int], nodes: int, address: str) -> None:
        """`own` are the ranks of this node; `address` is this host's address for all nodes. Raises `OSError`."""
        self.secret = secrets.token_hex(32)
        self.elsewhere = {rank: RemoteRank(rank) for rank in range(ranks) if rank not in own}
        self._page = LeaderPage(folder, ranks, own, nodes)
        self._nodes: dict[int, RemoteNode] = {}
        self._newcomers: list[_Unauthenticated] = []
        self._listener = listen(address, MOST_UNAUTHENTICATED)
        self.port = int(self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._busy_until = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="node-server", daemon=True)

    def start(self) -> NodeServer:
        self._thread.start()
        return self

    def take_samples(self, own_boards: int | None) -> dict[str, float]:
        """Return the samples of the other nodes' GPUs; see `steersman.agent.launch.remote_nodes`."""
        return take_samples(self._nodes, own_boards)

    def close(self) -> None:
        """Report the end of the attempt to the nodes, and stop."""
        self._closing = True
        self._thread.join(SERVER_CLOSE_TIMEOUT_S)

    def _serve(self) -> None:
        try:
            while not self._closing:
                busy = time.monotonic() < self._busy_until
                ready = self._selector.select(BUSY_PAUSE_S if busy else IDLE_PAUSE_S)
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    else:
                        key.data()
                self._tick()
            self._tick()
            for node in self._connected():
                self._send(node, {"over": True})
            self._flush_all()
        except Exception:
            # As if all nodes were lost: no more messages are sent or received.
            logger.exception("the node server broke")
        finally:
            self._mark_rest_lost()
            for link in [*(node.link for node in self._nodes.values()), *(each.link for each in self._newcomers)]:
                if link is not None:
                    link.close()
            self._listener.close()
            self._selector.close()

    def _flush_all(self) -> None:
        until = time.monotonic() + SERVER_CLOSE_TIMEOUT_S / 2
        while time.monotonic() < until:
            waiting = [node.link for node in self._connected() if node.link is not None and node.link.waits_to_send]
            if not waiting:
                return
            for link in waiting:
                with contextlib.suppress(OSError):
                    link.flush()
            time.sleep(BUSY_PAUSE_S)

    def _connected(self) -> list[RemoteNode]:
        return [node for node in self._nodes.values() if node.link is not None]

    # New connections

    def _accept(self) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError:
            return
        if len(self._newcomers) >= MOST_UNAUTHENTICATED:
            self._drop(self._silent_for_longest())
        link = NodeConnection(connection)
        newcomer = _Unauthenticated(link, secrets.token_hex(16), time.monotonic(), str(peer[0]))
        self._newcomers.append(newcomer)
        self._selector.register(newcomer.link, selectors.EVENT_READ, lambda: self._read_greeting(newcomer))
        try:
            newcomer.link.send({"nonce": newcomer.nonce})
        except OSError:
            self._drop(newcomer)

    def _silent_for_longest(self) -> _Unauthenticated:
        """Return the oldest connection of the most frequent address, so that waiting strangers cannot block a node."""
        counts = Counter(each.address for each in self._newcomers)
        most = max(counts.values())
        return next(each for each in self._newcomers if counts[each.address] == most)

    def _read_greeting(self, newcomer: _Unauthenticated) -> None:
        if newcomer not in self._newcomers:
            return  # another connection already replaced it in this round
        try:
            for message in newcomer.link.receive()[:1]:
                self._authenticate(newcomer, message)
        except (OSError, LookupError, TypeError, ValueError):
            self._drop(newcomer)

    def _drop(self, newcomer: _Unauthenticated) -> None:
        self._newcomers.remove(newcomer)
        self._selector.unregister(newcomer.link)
        newcomer.link.close()

    def _authenticate(self, newcomer: _Unauthenticated, greeting: NodeMessage) -> None:
        nonces = newcomer.nonce, str(greeting["nonce"])
        if not is_proof(greeting["proof"], self.secret, "node", nonces):
            raise ConnectionError("it does not have the secret")
        number, ranks = int(greeting["node"]), [int(rank) for rank in greeting["ranks"]]
        node = self._nodes.get(number)
        problem = self._refusal(node, str(greeting["identity"]), ranks)
        answer = {"proof": proof(self.secret, "server", nonces), "refused": problem}
        newcomer.link.send(answer)
        if problem:
            raise ConnectionError(problem)
        if node is None:
            node = self._nodes[number] = RemoteNode(number, str(greeting["identity"]), ranks)
        elif node.link is not None:
            self._disconnect(node)
        self._newcomers.remove(newcomer)
        link = newcomer.link
        link.is_trusted = True
        self._selector.modify(link, selectors.EVENT_READ, lambda: self._read_messages(node, link))
        node.link, node.sent_state, node.signals = link, None, {}
        node.unsent_rows = set(self._page.rows) - set(node.ranks)
        node.decisions_bytes, node.decided = int(greeting["decisions_bytes"]), int(greeting["decided"])
        for rank in ranks:
            self.elsewhere[rank].has_joined = True

    def _refusal(self, node: RemoteNode | None, identity: str, ranks: list[int]) -> str:
        """Return why a node must not join, "" if it may."""
        if node is not None:
            # A node that was lost, or a second one instead of a connected one, belongs to another attempt.
            is_back = node.identity == identity and node.ranks == ranks and not self._has_ended(node)
            return "" if is_back else "another process has already joined with this rank"
        if any(each.signal for each in self.elsewhere.values()):
            return "this attempt is ending"
        if not ranks or any(rank not in self.elsewhere or self.elsewhere[rank].has_joined for rank in ranks):
            return "these ranks are not part of this attempt, or have already joined"
        return ""

    def _disconnect(self, node: RemoteNode) -> None:
        if node.link is not None:
            self._selector.unregister(node.link)
            node.link.close()
            node.link, node.gone_since = None, time.monotonic()

    # Messages of the nodes

    def _read_messages(self, node: RemoteNode, link: NodeConnection) -> None:
        if node.link is not link:
            return
        try:
            for message in link.receive():
                self._busy_until = time.monotonic() + BUSY_FOR_S
                self._apply(node, message)
        except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            logger.info("the connection to node %d was lost: %s", node.number, error)
            self._disconnect(node)

    def _apply(self, node: RemoteNode, message: NodeMessage) -> None:
        for text in message.get("problems", ()):
            self._page.write_problem(self._checked_rank(node, text[0]), int(text[1]), str(text[2]))
        for rank, values in message.get("rows", ()):
            self._page.write_row(self._checked_rank(node, rank), values)
        # After the rows: once the barrier is seen, the leader reads the ranks' step boundaries.
        node.barrier_seen = max(node.barrier_seen, int(message.get("barrier_seen", 0)))
        if "boards" in message:
            node.boards = int(message["boards"])
            node.samples |= {str(name): float(value) for name, value in message["samples"].items()}
        for end in message.get("ends", ()):
            state = self.elsewhere[self._checked_rank(node, end["rank"])]
            if not state.has_ended:
                state.code, fields = end["code"], end["end_record"]
                state.end_record = None if fields is None else from_fields(EndRecord, fields)
                state.ended_by_itself = bool(end["ended_by_itself"])
                state.has_ended = True
                if end["failed"]:
                    self._page.mark_failed(state.rank)
            node.unconfirmed_ends.append(state.rank)

    def _checked_rank(self, node: RemoteNode, rank: Any) -> int:
        if rank not in node.ranks:
            raise ValueError(f"rank {rank} does not belong to node {node.number}")
        return int(rank)

    # Messages to the nodes

    def _tick(self) -> None:
        now = time.monotonic()
        for newcomer in [each for each in self._newcomers if now - each.since > deadlines.GREETING_TIMEOUT_S]:
            self._drop(newcomer)
        self._mark_lost_nodes(now)
        changed = self._page.changed_rows()
        state = self._page.barrier_state()
        for node in self._connected():
            node.unsent_rows |= changed - set(node.ranks)
            self._send(node, self._update_for(node, state))
        barrier = state[0]
        if self._page.is_unseen(barrier) and all(self._has_seen(node, barrier) for node in self._nodes.values()):
            self._page.mark_seen(barrier)

    def _update_for(self, node: RemoteNode, state: tuple[int, int, int]) -> NodeMessage:
        """Return the data that was not sent to a node yet, {} if there is none."""
        update: NodeMessage = {}
        if node.unsent_rows:
            update["rows"] = [[rank, *self._page.rows[rank]] for rank in sorted(node.unsent_rows)]
            problems = self._page.problems_of(sorted(node.unsent_rows))
            if problems:
                update["problems"] = problems
            node.unsent_rows = set()
        if state != node.sent_state:
            update["barrier"], update["left_out"], update["decided"] = state
            update["decisions"] = self._decisions(node, state[2])
            node.sent_state = state
        signals = {rank: self.elsewhere[rank].signal for rank in node.ranks if self.elsewhere[rank].signal}
        if signals != node.signals:
            node.signals = signals
            update["signals"] = sorted(signals.items())
        if node.unconfirmed_ends:
            update["ends"], node.unconfirmed_ends = node.unconfirmed_ends, []
        return update

    def _send(self, node: RemoteNode, message: NodeMessage) -> None:
        if node.link is None:
            return
        try:
            if message:
                self._busy_until = time.monotonic() + BUSY_FOR_S
                node.link.send(message)
            elif node.link.waits_to_send:
                node.link.flush()
        except OSError as error:
            logger.info("the connection to node %d was lost: %s", node.number, error)
            self._disconnect(node)

    def _decisions(self, node: RemoteNode, decided: int) -> str:
        """Return the lines of the leader's decisions that a node does not have, up to number `decided`."""
        if decided == node.decided:
            return ""
        text = self._page.read_decisions(node.decisions_bytes, decided - node.decided)
        node.decisions_bytes += len(text)
        node.decided = decided
        return text.decode()

    def _has_seen(self, node: RemoteNode, barrier: int) -> bool:
        return node.barrier_seen >= barrier or self._has_ended(node)

    def _has_ended(self, node: RemoteNode) -> bool:
        return all(self.elsewhere[rank].has_ended for rank in node.ranks)

    def _mark_lost_nodes(self, now: float) -> None:
        for node in self._nodes.values():
            if node.link is None and now - node.gone_since > deadlines.LOST_AFTER_S and not self._has_ended(node):
                self._mark_lost(node.ranks)

    def _mark_rest_lost(self) -> None:
        self._mark_lost([rank for rank, state in self.elsewhere.items() if not state.has_ended])

    def _mark_lost(self, ranks: Sequence[int]) -> None:
        """Mark the ranks of a lost node as ended."""
        for state in (self.elsewhere[rank] for rank in ranks):
            if not state.has_ended:
                state.ended_by_itself = not state.signal
                state.end_record = EndRecord(outcome="failed", error=lost_sentence(ranks), time=time.time())
                state.is_lost = state.has_ended = True
                self._page.mark_failed(state.rank)
