"""Carries word between the nodes of one training: the end on every node but that of rank 0.

It keeps this node's page of shared memory like the leader's, tells `node_server` what the ranks here do and how they
ended, and signals them as it is told. A node that hears no more of the first ends its ranks. No Django, no torch.
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
from typing import Any

import psutil

from steersman.agent.folders import WorkerProcess
from steersman.agent.journals.consoles import console_path
from steersman.agent.journals.tail import last_record
from steersman.agent.launch import deadlines
from steersman.agent.launch.node_connection import (
    BUSY_FOR_S,
    BUSY_PAUSE_S,
    IDLE_PAUSE_S,
    Message,
    NodeConnection,
    is_proof,
    proof,
)
from steersman.agent.launch.node_page import SAID, problems_of
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

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 2.0
NEWS_TIMEOUT_S = 3.0
GROUP_POLL_INTERVAL_S = 0.05
WRITTEN_INTERVAL_S = 0.25
SAMPLE_INTERVAL_S = 1.0
NODE_CLIENT_FILE = "node-client.json"


class NodeRefused(OSError):
    """Whoever answered is not of this launch, or does not want this node."""


def node_folder(folder: Path, node: int) -> Path:
    """Return the folder of a node in that of an attempt: for what is of one host alone."""
    return folder / "nodes" / str(node)


class NodeClient:
    """The `train` of a node's first rank connects; `ranks` are all that run on this node."""

    def __init__(self, folder: Path, node: int, ranks: Sequence[int], of: int, secret: str) -> None:
        """`of` is the number of ranks of the training."""
        self.folder = node_folder(folder, node)
        # Set when the first node is not heard of any more: by then its ranks are asked to end.
        self.is_lost = False
        self._attempt = folder
        self._node = node
        self._ranks = list(ranks)
        self._secret = secret
        self._who = secrets.token_hex(8)
        for parent in (self.folder.parent, self.folder):
            make_private(parent)
        self._words = open_page(self.folder, of)
        self._decisions = self.folder / "decisions.jsonl"
        workers = [Worker(rank, None) for rank in self._ranks]
        self._group = WorkerGroup(folder, workers, parent=os.getppid(), node=self.folder)
        self._link: NodeConnection | None = None
        self._place = "", 0
        self._rows: dict[int, list[int]] = {}
        self._unconfirmed: set[int] = set()
        self._told: set[int] = set()
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
        self._place = address, port
        connection = socket.create_connection(self._place, CONNECT_TIMEOUT_S)
        link = NodeConnection(connection)
        try:
            nonce = secrets.token_hex(16)
            greeting = _wait_for(link, NEWS_TIMEOUT_S)[0]
            nonces = str(greeting.get("nonce")), nonce
            link.send(
                {
                    "nonce": nonce,
                    "proof": proof(self._secret, "node", nonces),
                    "node": self._node,
                    "who": self._who,
                    "ranks": self._ranks,
                    "decisions_bytes": self._decisions.stat().st_size if self._decisions.exists() else 0,
                    "decided": self._words[DECISION_COUNT],
                }
            )
            answer, *news = _wait_for(link, NEWS_TIMEOUT_S)
            if not is_proof(answer.get("proof"), self._secret, "server", nonces):
                raise NodeRefused("it does not know the secret of this launch")
            if answer.get("refused"):
                raise NodeRefused(str(answer["refused"]))
            link.is_trusted = True
            self._rows = {}
            self._told, self._unconfirmed = set(), set()
            for message in news or _wait_for(link, NEWS_TIMEOUT_S):
                self._take(message, link)
        except (LookupError, TypeError, ValueError) as error:
            link.close()
            raise NodeRefused(f"it says what is none of ours ({error})") from error
        except BaseException:
            link.close()
            raise
        self._link = link

    def start(self) -> None:
        """Carry from now on. Other ranks of this node find it by its record."""
        WorkerProcess.of(os.getpid()).write(self.folder / NODE_CLIENT_FILE)
        self._sampler.start()
        threading.Thread(target=self._carry, name="node-client", daemon=True).start()
        threading.Thread(target=self._write_out, name="write-out", daemon=True).start()

    @property
    def has_told_all(self) -> bool:
        """Whether all ranks of this node have ended, and the first node knows how, or can no more be told."""
        ended = all(worker.has_ended for worker in self._group.workers)
        return ended and (self.is_lost or len(self._told) == len(self._ranks))

    def close(self) -> None:
        self._stop.set()
        self._sampler.stop()

    def _carry(self) -> None:
        try:
            while not self._stop.is_set() and not self.is_lost:
                try:
                    self._tend()
                except (OSError, LookupError, TypeError, ValueError) as error:
                    logger.info("the connection to the first node broke: %s", error)
                    self._reconnect()
        except Exception:
            logger.exception("nothing is carried to this node any more")
        finally:
            self.is_lost = True
            self._end_ranks()

    def _reconnect(self) -> None:
        until = time.monotonic() + deadlines.LOST_AFTER_S
        while not self._is_over and not self._stop.is_set() and time.monotonic() < until:
            try:
                self.connect(*self._place)
                return
            except NodeRefused:
                break
            except OSError:
                self._group.lives()
                time.sleep(0.05)
        self.is_lost = True

    def _end_ranks(self) -> None:
        """Ask the ranks here to end, and see to it that they do soon."""
        self._group.lives()
        self._group.end()
        began = time.monotonic()
        while self._group.lives():
            if time.monotonic() - began > deadlines.KILL_LOST_AFTER_S:
                self._group.kill(signal.SIGKILL)
            time.sleep(GROUP_POLL_INTERVAL_S)

    def _tend(self) -> None:
        link = self._link
        assert link is not None
        looked_at = 0.0
        while not self._stop.is_set():
            now = time.monotonic()
            pause = BUSY_PAUSE_S if now < self._busy_until else IDLE_PAUSE_S
            readable, _, _ = select.select([link], [], [], pause)
            if readable:
                for message in link.receive():
                    self._busy_until = now + BUSY_FOR_S
                    self._take(message, link)
                if self._is_over:
                    raise ConnectionError("the attempt is over")
            news = self._rows_to_tell()
            if now - looked_at > GROUP_POLL_INTERVAL_S:
                looked_at = now
                self._group.lives()
                news |= self._ends_to_tell() | self._samples_to_tell(now)
            if news:
                self._busy_until = now + BUSY_FOR_S
                link.send(news)
            elif link.waits_to_send:
                link.flush()

    # What comes

    def _take(self, message: Message, link: NodeConnection) -> None:
        """Write what came where the ranks here look: a decision before the hold that it ends, a rank's end last."""
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
            words[BARRIER] = message["hold"]
        for rank, *_, ended in rows:
            words[row_of(rank) + ROW_ENDED] = ended
        if message.get("hold"):
            # As the leader does on its own page: who has not reached it by now sees it.
            time.sleep(VISIBLE_AFTER_S)
            self._rows = {}
            link.send(self._rows_to_tell() | {"known": message["hold"]})
        self._told |= set(message.get("ends", ()))
        for _, number in message.get("signals", ()):
            self._hand_on(number)
        self._is_over = self._is_over or bool(message.get("over"))

    def _hand_on(self, number: int) -> None:
        """Signal the ranks here; whoever ends an attempt ends it for all."""
        if number == self._signal:
            return
        self._signal = number
        # One that started just now is found by a look.
        self._group.lives()
        self._group.end()
        if number != signal.SIGTERM:
            self._group.kill(signal.Signals(number))

    # What goes

    def _rows_to_tell(self) -> Message:
        """Return the rows of the ranks here that have changed by more than how far they are."""
        changed = []
        for rank in self._ranks:
            row = row_of(rank)
            # Against the order in which a rank writes them: where it waits before its step there, its end first of all.
            said = [self._words[row + place] for place in reversed(SAID)]
            said.reverse()
            if said[1:] != self._rows.get(rank, [0])[1:]:
                self._rows[rank] = said
                changed.append(rank)
        if not changed:
            return {}
        votes = SAID.index(ROW_VOTES)
        problems = [
            problem
            for rank in changed
            for problem in problems_of(self.folder, rank, {rank: self._rows[rank][votes : votes + 2]})
        ]
        rows = [[rank, [*self._rows[rank]]] for rank in changed]
        return {"rows": rows, "problems": problems} if problems else {"rows": rows}

    def _ends_to_tell(self) -> Message:
        ends = []
        for worker in self._group.workers:
            if worker.has_ended and worker.rank not in self._told and worker.rank not in self._unconfirmed:
                word = last_record(self._attempt, worker.rank)
                end: dict[str, Any] = {"rank": worker.rank, "code": worker.code, "was_free": worker.was_free}
                end |= {"said": word.fields if word else None, "said_at": word.time if word else 0.0}
                ends.append(end | {"failed": self._group.has_failed(worker)})
                self._unconfirmed.add(worker.rank)
        return {"ends": ends} if ends else {}

    def _samples_to_tell(self, now: float) -> Message:
        """Return what was read of the GPUs of this host; host and processes are those of the first node alone."""
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
        """Let what the ranks here log leave this host: on NFS it would lie in its memory for half a minute."""
        segments = dict.fromkeys(self._ranks, 0)
        written: dict[Path, int] = {}
        while not self._stop.wait(WRITTEN_INTERVAL_S):
            for rank in self._ranks:
                write_out(console_path(self._attempt, rank), written)
                # A segment that has a successor may have grown since the last look.
                while segment_path(self._attempt, rank, segments[rank] + 1).exists():
                    write_out(segment_path(self._attempt, rank, segments[rank]), written)
                    segments[rank] += 1
                write_out(segment_path(self._attempt, rank, segments[rank]), written)


def write_out(path: Path, written: dict[Path, int]) -> None:
    """Bring a file to where it is kept, if it is there and has grown since `written` was brought there."""
    # Gone already, or a file system that is: whoever reads it there says what that means.
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != written.get(path):
            os.fsync(file.fileno())
            written[path] = size


def is_manned(folder: Path) -> bool:
    """Tell whether the `train` of the node's first rank, started beside this process, has joined the attempt."""
    process = WorkerProcess.read(folder / NODE_CLIENT_FILE)
    if process is None or not process.is_alive():
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).ppid() == os.getppid()
    return False


def _wait_for(link: NodeConnection, timeout_s: float) -> list[Message]:
    """Return the next messages, at least one. Raises `OSError` where none comes."""
    until = time.monotonic() + timeout_s
    while (left_s := until - time.monotonic()) > 0:
        select.select([link], [], [], left_s)
        if found := link.receive():
            return found
    raise TimeoutError("it does not answer")
