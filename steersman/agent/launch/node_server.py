"""Carries word between the nodes of one training: the end on the node of rank 0, beside its supervisor.

On each node ranks meet on a page of shared memory (`steersman.ranks.barrier`). This end sends what is for all (holds,
decisions, votes, signals) to the other nodes, and writes what their ranks say into the page of this one, so that the
leader sees them as if they were here. `node_client` is the other end. Messages tell how things stand rather than
what has changed: one that is sent again after a cut does no harm. No Django, no torch.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import selectors
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steersman.agent.launch import deadlines
from steersman.agent.launch.node_connection import (
    BUSY_FOR_S,
    BUSY_PAUSE_S,
    IDLE_PAUSE_S,
    Message,
    NodeConnection,
    is_proof,
    listen,
    proof,
)
from steersman.agent.launch.node_page import LeaderPage
from steersman.agent.launch.remote_nodes import RemoteNode, RemoteRank, lost_sentence, take_samples

logger = logging.getLogger(__name__)

GREETING_TIMEOUT_S = 10.0
MOST_UNAUTHENTICATED = 64
CLOSE_TIMEOUT_S = 2.0


@dataclass(slots=True)
class _Unauthenticated:
    link: NodeConnection
    nonce: str
    since: float


class NodeServer:
    """Listens for the other nodes of a launch; `elsewhere` tells of their ranks."""

    def __init__(self, folder: Path, ranks: int, own: Sequence[int], nodes: int, address: str) -> None:
        """`own` are the ranks of this node; `address` is what all nodes know this host by. Raises `OSError`."""
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
        self._thread = threading.Thread(target=self._carry, name="node-server", daemon=True)

    def start(self) -> NodeServer:
        self._thread.start()
        return self

    def take_samples(self, own_boards: int | None) -> dict[str, float]:
        """Return what the other nodes read of their GPUs; see `steersman.agent.launch.remote_nodes`."""
        return take_samples(self._nodes, own_boards)

    def close(self) -> None:
        """Tell the nodes that it is over, and end."""
        self._closing = True
        self._thread.join(CLOSE_TIMEOUT_S)

    def _carry(self) -> None:
        try:
            while not self._closing:
                busy = time.monotonic() < self._busy_until
                ready = self._selector.select(BUSY_PAUSE_S if busy else IDLE_PAUSE_S)
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._welcome()
                    else:
                        key.data()
                self._tick()
            self._tick()
            for node in self._connected():
                self._tell(node, {"over": True})
            self._send_rest()
        except Exception:
            # As good as all nodes lost: without it nobody hears of their ranks, nor they of anything.
            logger.exception("the node server broke")
        finally:
            self._give_up_rest()
            for link in [*(node.link for node in self._nodes.values()), *(each.link for each in self._newcomers)]:
                if link is not None:
                    link.close()
            self._listener.close()
            self._selector.close()

    def _send_rest(self) -> None:
        until = time.monotonic() + CLOSE_TIMEOUT_S / 2
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

    # Who comes

    def _welcome(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if len(self._newcomers) >= MOST_UNAUTHENTICATED:
            connection.close()
            return
        newcomer = _Unauthenticated(NodeConnection(connection), secrets.token_hex(16), time.monotonic())
        self._newcomers.append(newcomer)
        self._selector.register(newcomer.link, selectors.EVENT_READ, lambda: self._greet(newcomer))
        try:
            newcomer.link.send({"nonce": newcomer.nonce})
        except OSError:
            self._dismiss(newcomer)

    def _greet(self, newcomer: _Unauthenticated) -> None:
        try:
            for message in newcomer.link.receive()[:1]:
                self._admit(newcomer, message)
        except (OSError, LookupError, TypeError, ValueError):
            self._dismiss(newcomer)

    def _dismiss(self, newcomer: _Unauthenticated) -> None:
        self._newcomers.remove(newcomer)
        self._selector.unregister(newcomer.link)
        newcomer.link.close()

    def _admit(self, newcomer: _Unauthenticated, greeting: Message) -> None:
        nonces = newcomer.nonce, str(greeting["nonce"])
        if not is_proof(greeting["proof"], self.secret, "node", nonces):
            raise ConnectionError("it does not know the secret")
        number, ranks = int(greeting["node"]), [int(rank) for rank in greeting["ranks"]]
        node = self._nodes.get(number)
        problem = self._objection(node, str(greeting["who"]), ranks)
        answer = {"proof": proof(self.secret, "server", nonces), "refused": problem}
        newcomer.link.send(answer)
        if problem:
            raise ConnectionError(problem)
        if node is None:
            node = self._nodes[number] = RemoteNode(number, str(greeting["who"]), ranks)
        elif node.link is not None:
            self._hang_up(node)
        self._newcomers.remove(newcomer)
        link = newcomer.link
        link.is_trusted = True
        self._selector.modify(link, selectors.EVENT_READ, lambda: self._hear(node, link))
        node.link, node.told, node.signals = link, None, {}
        node.unheard = set(self._page.rows) - set(node.ranks)
        node.decisions_bytes, node.decided = int(greeting["decisions_bytes"]), int(greeting["decided"])
        for rank in ranks:
            self.elsewhere[rank].has_joined = True

    def _objection(self, node: RemoteNode | None, who: str, ranks: list[int]) -> str:
        if node is not None:
            # Whoever was lost, or started again beside one that lives, belongs to another attempt.
            is_back = node.who == who and node.ranks == ranks and not self._is_over(node)
            return "" if is_back else "another process has this place"
        if any(each.signal for each in self.elsewhere.values()):
            return "this attempt is ending"
        if not ranks or any(rank not in self.elsewhere or self.elsewhere[rank].has_joined for rank in ranks):
            return "these ranks are none of this attempt"
        return ""

    def _hang_up(self, node: RemoteNode) -> None:
        if node.link is not None:
            self._selector.unregister(node.link)
            node.link.close()
            node.link, node.gone_since = None, time.monotonic()

    # What the nodes say

    def _hear(self, node: RemoteNode, link: NodeConnection) -> None:
        if node.link is not link:
            return
        try:
            for message in link.receive():
                self._busy_until = time.monotonic() + BUSY_FOR_S
                self._take(node, message)
        except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            logger.info("the connection to node %d broke: %s", node.number, error)
            self._hang_up(node)

    def _take(self, node: RemoteNode, message: Message) -> None:
        for text in message.get("problems", ()):
            self._page.write_problem(self._of(node, text[0]), int(text[1]), str(text[2]))
        for rank, said in message.get("rows", ()):
            self._page.write_row(self._of(node, rank), said)
        # Behind how far its ranks were when they first looked at it.
        node.known = max(node.known, int(message.get("known", 0)))
        if "boards" in message:
            node.boards = int(message["boards"])
            node.samples |= {str(name): float(value) for name, value in message["samples"].items()}
        for end in message.get("ends", ()):
            state = self.elsewhere[self._of(node, end["rank"])]
            if not state.has_ended:
                state.code, state.said, state.said_at = end["code"], end["said"], float(end["said_at"])
                state.was_free = bool(end["was_free"])
                state.has_ended = True
                if end["failed"]:
                    self._page.mark_failed(state.rank)
            node.ends.append(state.rank)

    def _of(self, node: RemoteNode, rank: Any) -> int:
        if rank not in node.ranks:
            raise ValueError(f"rank {rank} is not of node {node.number}")
        return int(rank)

    # What the nodes are told

    def _tick(self) -> None:
        now = time.monotonic()
        for newcomer in [each for each in self._newcomers if now - each.since > GREETING_TIMEOUT_S]:
            self._dismiss(newcomer)
        self._find_lost(now)
        changed = self._page.changed_rows()
        standing = self._page.standing()
        for node in self._connected():
            node.unheard |= changed - set(node.ranks)
            self._tell(node, self._news(node, standing))
        hold = standing[0]
        if self._page.has_to_be_seen(hold) and all(self._knows(node, hold) for node in self._nodes.values()):
            self._page.mark_seen(hold)

    def _news(self, node: RemoteNode, standing: tuple[int, int, int]) -> Message:
        """Return what a node has not been told yet, {} where there is nothing."""
        news: Message = {}
        if node.unheard:
            news["rows"] = [[rank, *self._page.rows[rank]] for rank in sorted(node.unheard)]
            problems = self._page.problems_of(sorted(node.unheard))
            if problems:
                news["problems"] = problems
            node.unheard = set()
        if standing != node.told:
            news["hold"], news["left_out"], news["decided"] = standing
            news["decisions"] = self._decisions(node, standing[2])
            node.told = standing
        signals = {rank: self.elsewhere[rank].signal for rank in node.ranks if self.elsewhere[rank].signal}
        if signals != node.signals:
            node.signals = signals
            news["signals"] = sorted(signals.items())
        if node.ends:
            news["ends"], node.ends = node.ends, []
        return news

    def _tell(self, node: RemoteNode, message: Message) -> None:
        if node.link is None:
            return
        try:
            if message:
                self._busy_until = time.monotonic() + BUSY_FOR_S
                node.link.send(message)
            elif node.link.waits_to_send:
                node.link.flush()
        except OSError as error:
            logger.info("the connection to node %d broke: %s", node.number, error)
            self._hang_up(node)

    def _decisions(self, node: RemoteNode, decided: int) -> str:
        """Return the lines of the leader's decisions that a node lacks, up to number `decided`."""
        if decided == node.decided:
            return ""
        text = self._page.read_decisions(node.decisions_bytes, decided - node.decided)
        node.decisions_bytes += len(text)
        node.decided = decided
        return text.decode()

    def _knows(self, node: RemoteNode, hold: int) -> bool:
        return node.known >= hold or self._is_over(node)

    def _is_over(self, node: RemoteNode) -> bool:
        return all(self.elsewhere[rank].has_ended for rank in node.ranks)

    def _find_lost(self, now: float) -> None:
        for node in self._nodes.values():
            if node.link is None and now - node.gone_since > deadlines.LOST_AFTER_S and not self._is_over(node):
                self._give_up(node.ranks)

    def _give_up_rest(self) -> None:
        self._give_up([rank for rank, state in self.elsewhere.items() if not state.has_ended])

    def _give_up(self, ranks: Sequence[int]) -> None:
        """Take ranks for ended of which nothing is heard any more."""
        for state in (self.elsewhere[rank] for rank in ranks):
            if not state.has_ended:
                state.was_free = not state.signal
                state.said = {"outcome": "failed", "error": lost_sentence(ranks), "traceback": ""}
                state.said_at = time.time()
                state.is_lost = state.has_ended = True
                self._page.mark_failed(state.rank)
