"""Connects the nodes of one training: the client on every node except that of rank 0.

It synchronises this node's page of shared memory with the leader's, reports the rows and ends of the ranks here to
`node_server`, and forwards signals to them. A node that loses its connection to the first ends its ranks. No Django, no
torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from steersman.agent.folders import WorkerProcess
from steersman.agent.journals.consoles import console_path
from steersman.agent.journals.tail import last_record
from steersman.agent.launch import deadlines
from steersman.agent.launch.node_connection import (
    BUSY_FOR_S,
    BUSY_PAUSE_S,
    IDLE_PAUSE_S,
    NodeConnection,
    NodeMessage,
    is_proof,
    proof,
)
from steersman.agent.launch.node_page import REPORTED_WORDS, problems_of
from steersman.agent.launch.worker_group import Worker, WorkerGroup
from steersman.agent.machine.sampler import Sampler
from steersman.files.journal import segment_path
from steersman.files.private import make_private, open_private
from steersman.ranked_run import VISIBLE_AFTER_S
from steersman.ranks.barrier import (
    BARRIER,
    DECISION_COUNT,
    LEFT_OUT,
    REMOTE,
    ROW_ENDED,
    ROW_PID,
    ROW_VOTES,
    open_page,
    row_of,
    write_problem,
)
from steersman.records.typed_json import fields_of

logger = logging.getLogger(__name__)

GROUP_POLL_INTERVAL_S = 0.05
WRITTEN_INTERVAL_S = 0.25
SAMPLE_INTERVAL_S = 1.0
NODE_CLIENT_FILE = "node-client.json"


class NodeRefused(OSError):
    """The process that answered is not part of this launch, or refuses this node."""


def node_folder(folder: Path, node: int) -> Path:
    """Return the folder of a node in that of an attempt, for files of one host."""
    return folder / "nodes" / str(node)


class NodeClient:
    """The client in the `train` of a node's first rank; `ranks` are all ranks of this node."""

    def __init__(self, folder: Path, node: int, ranks: Sequence[int], of: int, secret: str) -> None:
        """`of` is the number of ranks of the training."""
        self.folder = node_folder(folder, node)
        # Set when the connection to the first node is lost: right after that, the ranks here are asked to end.
        self.is_lost = False
        self._attempt = folder
        self._node = node
        self._ranks = list(ranks)
        self._secret = secret
        self._identity = secrets.token_hex(8)
        for parent in (self.folder.parent, self.folder):
            make_private(parent)
        self._words = open_page(self.folder, of)
        self._decisions = self.folder / "decisions.jsonl"
        workers = [Worker(rank, None) for rank in self._ranks]
        self._group = WorkerGroup(folder, workers, parent=os.getppid(), node=self.folder)
        self._link: NodeConnection | None = None
        self._server_address = "", 0
        self._rows: dict[int, list[int]] = {}
        self._unconfirmed: set[int] = set()
        self._confirmed: set[int] = set()
        self._signal = 0
        self._busy_until = 0.0
        self._is_over = False
        self._stop = threading.Event()
        self._sampler = Sampler()
        self._sampled_at = 0.0

    def connect(self, address: str, port: int) -> None:
        """Connect to the node server and bring this node's page up to date.

        Raises `NodeRefused`, or `OSError` if none answers.
        """
        self._server_address = address, port
        connection = socket.create_connection(self._server_address, deadlines.TCP_CONNECT_TIMEOUT_S)
        link = NodeConnection(connection)
        try:
            nonce = secrets.token_hex(16)
            greeting = _wait_for(link, deadlines.HANDSHAKE_MESSAGE_TIMEOUT_S)[0]
            nonces = str(greeting.get("nonce")), nonce
            link.send(
                {
                    "nonce": nonce,
                    "proof": proof(self._secret, "node", nonces),
                    "node": self._node,
                    "identity": self._identity,
                    "ranks": self._ranks,
                    "decisions_bytes": self._decisions.stat().st_size if self._decisions.exists() else 0,
                    "decided": self._words[DECISION_COUNT],
                }
            )
            answer, *news = _wait_for(link, deadlines.HANDSHAKE_MESSAGE_TIMEOUT_S)
            if not is_proof(answer.get("proof"), self._secret, "server", nonces):
                raise NodeRefused("the process that answered does not have the secret of this launch")
            if answer.get("refused"):
                raise NodeRefused(str(answer["refused"]))
            link.is_trusted = True
            self._rows = {}
            self._confirmed, self._unconfirmed = set(), set()
            for message in news or _wait_for(link, deadlines.HANDSHAKE_MESSAGE_TIMEOUT_S):
                self._apply(message, link)
        except (LookupError, TypeError, ValueError) as error:
            link.close()
            raise NodeRefused(f"the process that answered uses another protocol ({error})") from error
        except BaseException:
            link.close()
            raise
        self._link = link

    def start(self) -> None:
        """Start exchanging messages. Other ranks of this node find this process by its record."""
        WorkerProcess.of(os.getpid()).write(self.folder / NODE_CLIENT_FILE)
        self._sampler.start()
        threading.Thread(target=self._run, name="node-client", daemon=True).start()
        threading.Thread(target=self._write_out, name="write-out", daemon=True).start()

    @property
    def has_reported_all(self) -> bool:
        """Whether all ranks of this node have ended, and the first node has confirmed that, or is lost."""
        ended = all(worker.has_ended for worker in self._group.workers)
        return ended and (self.is_lost or len(self._confirmed) == len(self._ranks))

    def close(self) -> None:
        self._stop.set()
        self._sampler.stop()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self.is_lost:
                try:
                    self._exchange_messages()
                except (OSError, LookupError, TypeError, ValueError) as error:
                    logger.info("the connection to the first node was lost: %s", error)
                    self._reconnect()
        except Exception:
            logger.exception("the node client broke")
        finally:
            self.is_lost = True
            self._end_ranks()

    def _reconnect(self) -> None:
        until = time.monotonic() + deadlines.LOST_AFTER_S
        while not self._is_over and not self._stop.is_set() and time.monotonic() < until:
            try:
                self.connect(*self._server_address)
                return
            except NodeRefused:
                break
            except OSError:
                self._group.poll_alive()
                time.sleep(0.05)
        self.is_lost = True

    def _end_ranks(self) -> None:
        """Ask the ranks here to end, and kill them after a while."""
        self._group.poll_alive()
        self._group.end()
        began = time.monotonic()
        while self._group.poll_alive():
            if time.monotonic() - began > deadlines.KILL_LOST_AFTER_S:
                self._group.kill(signal.SIGKILL)
            time.sleep(GROUP_POLL_INTERVAL_S)

    def _exchange_messages(self) -> None:
        link = self._link
        assert link is not None
        looked_at = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            pause = BUSY_PAUSE_S if now < self._busy_until else IDLE_PAUSE_S
            if _is_readable(link, pause):
                for message in link.receive():
                    self._busy_until = now + BUSY_FOR_S
                    self._apply(message, link)
                if self._is_over:
                    raise ConnectionError("the attempt is over")
            news = self._changed_rows()
            if now - looked_at > GROUP_POLL_INTERVAL_S:
                looked_at = now
                self._group.poll_alive()
                news |= self._unsent_ends() | self._due_samples(now)
            if news:
                self._busy_until = now + BUSY_FOR_S
                link.send(news)
            elif link.waits_to_send:
                link.flush()

    # Messages of the server

    def _apply(self, message: NodeMessage, link: NodeConnection) -> None:
        """Write a message into the page: a decision before its barrier is cleared, a rank's end last."""
        words = self._words
        for rank, votes, text in message.get("problems", ()):
            write_problem(self.folder, int(rank), int(votes), str(text))
        rows = [row for row in message.get("rows", ()) if row[0] not in self._ranks]
        for rank, first, second, attached, _ in rows:
            row = row_of(rank)
            words[row + ROW_PID] = REMOTE if attached else 0
            words[row + ROW_VOTES], words[row + ROW_VOTES + 1] = first, second
        if "decided" in message:
            if message["decisions"]:
                with open_private(self._decisions, "ab") as file:
                    file.write(message["decisions"].encode())
            words[DECISION_COUNT] = message["decided"]
            words[LEFT_OUT] = message["left_out"]
            words[BARRIER] = message["barrier"]
        for rank, *_, ended in rows:
            words[row_of(rank) + ROW_ENDED] = ended
        if message.get("barrier"):
            # The leader waits too after it has written its page. A rank that arrives later sees the new value.
            time.sleep(VISIBLE_AFTER_S)
            self._rows = {}
            link.send(self._changed_rows() | {"barrier_seen": message["barrier"]})
        self._confirmed |= set(message.get("ends", ()))
        for _, number in message.get("signals", ()):
            self._forward_signal(number)
        self._is_over = self._is_over or bool(message.get("over"))

    def _forward_signal(self, number: int) -> None:
        """Send the signal to all ranks here, once per signal number."""
        if number == self._signal:
            return
        self._signal = number
        # Polling finds a rank that has just started.
        self._group.poll_alive()
        self._group.end()
        if number != signal.SIGTERM:
            self._group.kill(signal.Signals(number))

    # Messages to the server

    def _changed_rows(self) -> NodeMessage:
        """Return the rows of the ranks here that have changed in more than their step boundary."""
        changed = []
        for rank in self._ranks:
            row = row_of(rank)
            # Read in the reverse order of a rank's writes: its end, then the boundary at which it waits, then its step.
            values = [self._words[row + place] for place in reversed(REPORTED_WORDS)]
            values.reverse()
            if values[1:] != self._rows.get(rank, [0])[1:]:
                self._rows[rank] = values
                changed.append(rank)
        if not changed:
            return {}
        votes = REPORTED_WORDS.index(ROW_VOTES)
        problems = [
            problem
            for rank in changed
            for problem in problems_of(self.folder, rank, {rank: self._rows[rank][votes : votes + 2]})
        ]
        rows = [[rank, [*self._rows[rank]]] for rank in changed]
        return {"rows": rows, "problems": problems} if problems else {"rows": rows}

    def _unsent_ends(self) -> NodeMessage:
        ends = []
        for worker in self._group.workers:
            if worker.has_ended and worker.rank not in self._confirmed and worker.rank not in self._unconfirmed:
                record = last_record(self._attempt, worker.rank)
                end: NodeMessage = {"rank": worker.rank, "code": worker.code}
                end |= {"end_record": fields_of(record) if record else None}
                end |= {"ended_by_itself": worker.ended_by_itself, "failed": self._group.has_failed(worker)}
                ends.append(end)
                self._unconfirmed.add(worker.rank)
        return {"ends": ends} if ends else {}

    def _due_samples(self, now: float) -> NodeMessage:
        """Return samples of this host's GPUs; only the first node samples host and processes."""
        if now - self._sampled_at < SAMPLE_INTERVAL_S or self._sampler.boards is None:
            return {}
        self._sampled_at = now
        sample = self._sampler.take()
        values = sample.values.items() if sample else ()
        return {
            "boards": self._sampler.boards,
            "samples": {name: round(value, 3) for name, value in values if name.startswith("gpu/")},
        }

    def _write_out(self) -> None:
        """Flush the files of this node's ranks to shared storage: an NFS client may cache them for half a minute."""
        segments = dict.fromkeys(self._ranks, 0)
        written: dict[Path, int] = {}
        while not self._stop.wait(WRITTEN_INTERVAL_S):
            for rank in self._ranks:
                write_out(console_path(self._attempt, rank), written)
                # A segment with a successor may have grown since it was last flushed.
                while segment_path(self._attempt, rank, segments[rank] + 1).exists():
                    write_out(segment_path(self._attempt, rank, segments[rank]), written)
                    segments[rank] += 1
                write_out(segment_path(self._attempt, rank, segments[rank]), written)


def write_out(path: Path, written: dict[Path, int]) -> None:
    """Flush a file to storage, if it exists and its size differs from that in `written`."""
    # The file or its file system may be gone: the supervisor, which reads it, reports that.
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != written.get(path):
            os.fsync(file.fileno())
            written[path] = size


def is_supervised(folder: Path) -> bool:
    """Return whether the `train` of the node's first rank, started beside this process, has joined the attempt."""
    process = WorkerProcess.read(folder / NODE_CLIENT_FILE)
    if process is None or not process.is_alive():
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).ppid() == os.getppid()
    return False


def _is_readable(link: NodeConnection, timeout_s: float) -> bool:
    """Wait until something can be read, for at most `timeout_s`. `select` would fail beyond 1,024 open files."""
    poll = select.poll()
    poll.register(link, select.POLLIN)
    return bool(poll.poll(1000 * timeout_s))


def _wait_for(link: NodeConnection, timeout_s: float) -> list[NodeMessage]:
    """Return the next messages, at least one. Raises `OSError` if none arrives in time."""
    until = time.monotonic() + timeout_s
    while (left_s := until - time.monotonic()) > 0:
        _is_readable(link, left_s)
        if found := link.receive():
            return found
    raise TimeoutError("it does not answer")
