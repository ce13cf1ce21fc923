"""Manages the training processes of an attempt, one per rank: polls them, finds the one that failed, ends all.

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

from steersman.agent.folders import WorkerProcess, recorded_exit
from steersman.agent.journals.tail import last_record
from steersman.agent.launch import deadlines
from steersman.agent.launch.node_server import NodeServer
from steersman.agent.launch.remote_nodes import RemoteRank
from steersman.agent.launch.undeclared_ranks import UndeclaredRanks
from steersman.records.kinds import EndRecord


@dataclass(slots=True)
class Worker:
    """One rank's process; `code` as in `subprocess`.

    `process` is None if another process started it, `recorded` is None until that process has recorded its id. For a
    rank that is `elsewhere`, on another node, both are None.
    """

    rank: int
    recorded: WorkerProcess | None
    process: subprocess.Popen[bytes] | None = None
    elsewhere: RemoteRank | None = None
    has_ended: bool = False
    code: int | None = None
    # When it was first found to be gone, while its exit status may still arrive.
    gone_since: float | None = None
    # Whether it ended before any rank was asked to end.
    ended_by_itself: bool = True

    @property
    def was_before_reboot(self) -> bool:
        """Whether this host was rebooted after the process was started."""
        return self.recorded is not None and self.recorded.was_before_reboot


class WorkerGroup:
    """The ranks of an attempt; `workers` is ordered by rank."""

    def __init__(
        self,
        folder: Path,
        workers: Sequence[Worker],
        *,
        parent: int | None = None,
        node: Path | None = None,
        server: NodeServer | None = None,
    ) -> None:
        """`parent` is the process whose end ends the training too: torchrun, or that which a batch system started.

        `node` is the folder with the process records of this host, if that is not the attempt's. `server` is connected
        to the other nodes.
        """
        self._server = server
        self.workers = list(workers)
        self._folder = folder
        self._node = node or folder
        self._parent = parent
        self._began = time.monotonic()
        self._end_asked_at: float | None = None
        # If there are several ranks, all are declared; a single rank may have started others.
        alone = len(self.workers) == 1 and self.workers[0].elsewhere is None
        self._undeclared = UndeclaredRanks(folder) if alone else None

    @classmethod
    def adopted(cls, folder: Path, ranks: int, parent: int | None = None) -> WorkerGroup:
        """Return the group of an attempt whose supervisor has died."""
        workers = [Worker(rank, WorkerProcess.recorded(folder, rank)) for rank in range(ranks)]
        return cls(folder, workers, parent=parent)

    @property
    def pids(self) -> list[int]:
        return list(self.pids_by_rank.values())

    @property
    def pids_by_rank(self) -> dict[int, int]:
        """Return the ids of the processes on this host, by rank."""
        return {worker.rank: worker.recorded.pid for worker in self.workers if worker.recorded is not None}

    def take_samples(self, own_boards: int | None) -> dict[str, float]:
        """Return samples of the GPUs of other nodes, numbered after the `own_boards` here."""
        return self._server.take_samples(own_boards) if self._server else {}

    def poll_alive(self) -> bool:
        """Poll all ranks, end the others if one has failed, and return whether any process is alive."""
        now = time.monotonic()
        for worker in self.workers:
            if not worker.has_ended and self._has_ended(worker, now):
                worker.has_ended = True
                remote = worker.elsewhere
                worker.ended_by_itself = self._end_asked_at is None if remote is None else remote.ended_by_itself
                if worker.code != 0 and worker.process is not None:
                    # Its child processes, such as DataLoader workers, are no longer needed.
                    signal_group(worker.process.pid, signal.SIGKILL)
                    if self._undeclared is not None and self._undeclared.are_known:
                        self._undeclared.kill()
        living = [worker for worker in self.workers if not worker.has_ended]
        if living and self._end_asked_at is None and (self._failed() or self._is_orphaned()):
            self.end()
        is_lost = any(worker.elsewhere is not None and worker.elsewhere.is_lost for worker in self.workers)
        kill_after_s = deadlines.KILL_LOST_AFTER_S if is_lost else deadlines.KILL_AFTER_S
        if living and self._end_asked_at is not None and now - self._end_asked_at > kill_after_s:
            self._signal(living, signal.SIGKILL)
        if self._undeclared is not None:
            self._undeclared.tick(now, worker_has_ended=not living)
        return bool(living) or (self._undeclared is not None and self._undeclared.remain)

    def end(self) -> None:
        """Ask all ranks that are alive to end; `poll_alive` kills them after a time. Later calls are ignored."""
        if self._end_asked_at is None:
            self._end_asked_at = time.monotonic()
            self.kill(signal.SIGTERM)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to all ranks that are alive, and to the processes that they started."""
        self._signal([worker for worker in self.workers if not worker.has_ended], number)

    def kill_overtaken(self) -> None:
        """End the ranks at once, because another attempt holds the run.

        SIGKILL, because the training could handle another signal by saving a checkpoint.
        """
        self.kill(signal.SIGKILL)

    def has_failed(self, worker: Worker) -> bool:
        return worker.has_ended and not self._ended_well(worker)

    def root_cause(self) -> Worker:
        """Return the rank that caused the end of the attempt: the first that failed, else rank 0."""
        failed = self._failed()
        by_themselves = [worker for worker in failed if worker.ended_by_itself]
        by_signal = [worker for worker in by_themselves if worker.code is not None and worker.code < 0]
        # A rank that raises writes an END record: one without was ended from outside.
        silent = [worker for worker in by_themselves if self._recorded_end(worker) is None]
        if by_signal or silent:
            return (by_signal or silent)[0]
        # Ranks that lose the connection to the failed one fail too, slightly later.
        recorded = [(end.time, worker) for worker in failed if (end := self._recorded_end(worker))]
        if recorded:
            return min(recorded, key=lambda each: each[0])[1]
        return (by_themselves or failed or self.workers)[0]

    def end_record(self, worker: Worker) -> EndRecord | None:
        """Return the END record of a rank that has ended, None if it died without one.

        A rank whose node has not joined failed with that error.
        """
        if worker.elsewhere is not None and not worker.elsewhere.has_joined:
            error = f"The node of this rank has not joined the training within {deadlines.JOINED_AFTER_S:.0f} s."
            return EndRecord(outcome="failed", error=error)
        return self._recorded_end(worker)

    def _recorded_end(self, worker: Worker) -> EndRecord | None:
        if worker.elsewhere is not None:
            # The end of its journal may not be readable on this host yet.
            return worker.elsewhere.end_record
        return last_record(self._folder, worker.rank)

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
        """Return the exit status of a rank. It is 0 for a launcher too, if rank 0 stopped and the others were ended."""
        if self._undeclared is not None and self._undeclared.are_to_stop and has_ended_well(self._folder, rank):
            return 0
        return meant_code(self._folder, rank, code)

    def _failed(self) -> list[Worker]:
        return [worker for worker in self.workers if self.has_failed(worker)]

    def _ended_well(self, worker: Worker) -> bool:
        if worker.code is not None:
            return worker.code == 0
        end = self.end_record(worker)
        return end is not None and end.is_good

    def _is_orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    def _signal(self, workers: Sequence[Worker], number: signal.Signals) -> None:
        for worker in workers:
            if worker.elsewhere is not None:
                worker.elsewhere.signal = number
            elif worker.recorded is not None:
                signal_group(worker.recorded.pid, number)
        if self._undeclared is not None and number == signal.SIGKILL:
            # Ranks that torchrun started are in separate sessions.
            self._undeclared.kill()


def meant_code(folder: Path, rank: int, code: int) -> int:
    """Return the exit status of a rank. It is 0 if SIGTERM ended it after its END record, while it was exiting.

    An interpreter that exits no longer handles signals.
    """
    return 0 if code == -signal.SIGTERM and has_ended_well(folder, rank) else code


def has_ended_well(folder: Path, rank: int) -> bool:
    """Return whether the END record of a rank shows that it finished, stopped, or ran to its end."""
    record = last_record(folder, rank)
    return record is not None and record.is_good


def catches(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal, False where that cannot be found out (proc(5))."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(mask, 16) >> (number - 1) & 1)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and its group, to reach its children too; an adopted process may not lead a group."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it has ended by itself
