"""The training processes of an attempt, one a rank: whether they live, which of them failed, and how all are ended.

A rank that fails ends the attempt: the others get SIGTERM and, after a time, SIGKILL. No Django, no torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steersman.agent.folders import WorkerProcess, recorded_exit
from steersman.agent.journals.tail import last_record
from steersman.agent.launch import deadlines
from steersman.agent.launch.node_server import NodeServer
from steersman.agent.launch.remote_nodes import RemoteRank
from steersman.agent.launch.undeclared_ranks import UndeclaredRanks

GOOD_ENDS = ("finished", "stopped", "")


@dataclass(slots=True)
class Worker:
    """One rank's process; `code` as in `subprocess`.

    `process` is None where another process started it, `recorded` until that one has recorded which it is. Of one that
    is `elsewhere`, on another node, both are unknown here.
    """

    rank: int
    recorded: WorkerProcess | None
    process: subprocess.Popen[bytes] | None = None
    elsewhere: RemoteRank | None = None
    has_ended: bool = False
    code: int | None = None
    # When it was first seen to be gone, while its exit status may still become known.
    gone_since: float | None = None
    # Whether it ended before anybody was told to.
    was_free: bool = True


class WorkerGroup:
    """Ranks of an attempt; `workers` in the order of their ranks."""

    def __init__(
        self,
        folder: Path,
        workers: Sequence[Worker],
        *,
        parent: int | None = None,
        node: Path | None = None,
        server: NodeServer | None = None,
    ) -> None:
        """`parent` is the process whose end ends the training too: torchrun. `node` is where the records of processes
        lie that are of one host alone, where that is not the attempt's folder. `server` hears of other nodes."""
        self._server = server
        self.workers = list(workers)
        self._folder = folder
        self._node = node or folder
        self._parent = parent
        self._began = time.monotonic()
        self._told_at: float | None = None
        # Of several ranks each is known; of one, it may have started others.
        alone = len(self.workers) == 1 and self.workers[0].elsewhere is None
        self._undeclared = UndeclaredRanks(folder) if alone else None

    @classmethod
    def adopted(cls, folder: Path, ranks: int) -> WorkerGroup:
        """Return the team of an attempt whose supervisor has died."""
        return cls(folder, [Worker(rank, WorkerProcess.recorded(folder, rank)) for rank in range(ranks)])

    @property
    def pids(self) -> list[int]:
        return [worker.recorded.pid for worker in self.workers if worker.recorded is not None]

    def take_samples(self, own_boards: int | None) -> dict[str, float]:
        """Return what was read of the GPUs of other nodes, whose numbers follow those of the `own_boards` here."""
        return self._server.take_samples(own_boards) if self._server else {}

    def lives(self) -> bool:
        """Look at all ranks, end the others where one has failed, and tell whether any lives."""
        now = time.monotonic()
        for worker in self.workers:
            if not worker.has_ended and self._has_ended(worker, now):
                worker.has_ended = True
                worker.was_free = self._told_at is None if worker.elsewhere is None else worker.elsewhere.was_free
                if worker.code != 0 and worker.process is not None:
                    # What it started, DataLoader workers among it, has lost its purpose.
                    signal_group(worker.process.pid, signal.SIGKILL)
                    if self._undeclared is not None and self._undeclared.are_known:
                        self._undeclared.kill()
        living = [worker for worker in self.workers if not worker.has_ended]
        if living and self._told_at is None and (self._failed() or self._is_orphaned()):
            self.end()
        is_lost = any(worker.elsewhere is not None and worker.elsewhere.is_lost for worker in self.workers)
        patience_s = deadlines.KILL_LOST_AFTER_S if is_lost else deadlines.KILL_AFTER_S
        if living and self._told_at is not None and now - self._told_at > patience_s:
            self._signal(living, signal.SIGKILL)
        if self._undeclared is not None:
            self._undeclared.tick(now, worker_has_ended=not living)
        return bool(living) or (self._undeclared is not None and self._undeclared.remain)

    def end(self) -> None:
        """Ask all ranks that live to end, and see to it that they do. Later calls are ignored."""
        if self._told_at is None:
            self._told_at = time.monotonic()
            self.kill(signal.SIGTERM)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to all ranks that live, and to what they started."""
        self._signal([worker for worker in self.workers if not worker.has_ended], number)

    def has_failed(self, worker: Worker) -> bool:
        return worker.has_ended and not self._ended_well(worker)

    def root_cause(self) -> Worker:
        """Return the rank whose end says how the attempt ended: the first that failed, else rank 0."""
        failed = self._failed()
        by_signal = [worker for worker in failed if worker.was_free and worker.code is not None and worker.code < 0]
        # Whoever raises says so: one that said nothing was ended from outside.
        silent = [worker for worker in failed if worker.was_free and self._last_word(worker) is None]
        if by_signal or silent:
            return (by_signal or silent)[0]
        # Ranks that lost the failed one fail too, a little later.
        told = [(word[0], worker) for worker in failed if (word := self._last_word(worker))]
        if told:
            return min(told, key=lambda each: each[0])[1]
        free = [worker for worker in failed if worker.was_free]
        return (free or failed or self.workers)[0]

    def said(self, worker: Worker) -> dict[str, Any]:
        """Return how a rank that has ended said that it did, {} where it died without a word."""
        if worker.elsewhere is not None and not worker.elsewhere.has_joined:
            error = f"Its node has not joined the training within {deadlines.JOINED_AFTER_S:.0f} s."
            return {"outcome": "failed", "error": error, "traceback": ""}
        word = self._last_word(worker)
        return word[1] if word else {}

    def _last_word(self, worker: Worker) -> tuple[float, dict[str, Any]] | None:
        """Return when and how a rank said that it ended, None where it did not."""
        if worker.elsewhere is not None:
            # Its journal may not be readable to its end here yet.
            return None if worker.elsewhere.said is None else (worker.elsewhere.said_at, worker.elsewhere.said)
        record = last_record(self._folder, worker.rank)
        return (record.time, record.fields) if record else None

    def _has_ended(self, worker: Worker, now: float) -> bool:
        if worker.elsewhere is not None:
            worker.code = worker.elsewhere.code
            late = not worker.elsewhere.has_joined and now - self._began > deadlines.JOINED_AFTER_S
            return worker.elsewhere.has_ended or late
        if worker.process is not None:
            code = worker.process.poll()
            worker.code = None if code is None else self._meant_code(worker.rank, code)
            return code is not None
        if worker.recorded is None:
            worker.recorded = WorkerProcess.recorded(self._node, worker.rank)
        if worker.recorded is None:
            return self._parent is None or now - self._began > deadlines.STARTED_AFTER_S
        if worker.recorded.is_alive():
            return False
        worker.code = recorded_exit(self._node, worker.rank)
        worker.gone_since = worker.gone_since or now
        return worker.code is not None or self._parent is None or now - worker.gone_since > deadlines.EXIT_KNOWN_AFTER_S

    def _meant_code(self, rank: int, code: int) -> int:
        """Return the exit status of a rank: 0 also of a launcher whose rank 0 stopped and whose others were ended."""
        if self._undeclared is not None and self._undeclared.are_to_stop and has_ended_well(self._folder, rank):
            return 0
        return meant_code(self._folder, rank, code)

    def _failed(self) -> list[Worker]:
        return [worker for worker in self.workers if self.has_failed(worker)]

    def _ended_well(self, worker: Worker) -> bool:
        if worker.code is not None:
            return worker.code == 0
        return self.said(worker).get("outcome") in GOOD_ENDS

    def _is_orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    def _signal(self, workers: Sequence[Worker], number: signal.Signals) -> None:
        for worker in workers:
            if worker.elsewhere is not None:
                worker.elsewhere.signal = number
            elif worker.recorded is not None:
                signal_group(worker.recorded.pid, number)
        if self._undeclared is not None and number == signal.SIGKILL:
            # Ranks that torchrun started are in sessions of their own.
            self._undeclared.kill()


def meant_code(folder: Path, rank: int, code: int) -> int:
    """Return the exit status of a rank: 0 also where SIGTERM met it on its way out, after its last word.

    An interpreter that ends no longer handles signals.
    """
    return 0 if code == -signal.SIGTERM and has_ended_well(folder, rank) else code


def has_ended_well(folder: Path, rank: int) -> bool:
    """Tell whether a rank has said that it finished, stopped, or ran to its end."""
    record = last_record(folder, rank)
    return record is not None and record.fields.get("outcome") in GOOD_ENDS


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process and its group, so that what it started ends too; an adopted one may be no leader of one."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it has ended by itself
