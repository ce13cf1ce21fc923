"""Ends undeclared ranks when the training is to stop, because the command to stop reaches only rank 0.

torchrun starts them in separate sessions, so they are recognised by the attempt in their environment. No Django, no
torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from steersman.agent.journals.tail import last_record
from steersman.ranks.undeclared import STOPPING_FILE
from steersman.run import FOLDER_VARIABLE

UNDECLARED_POLL_INTERVAL_S = 0.25
# Before that, rank 0 may save a checkpoint. The others are not needed for it: they would wait for ever, or fail.
END_UNDECLARED_AFTER_S = 10.0
KILL_UNDECLARED_AFTER_S = 5.0
# The process that started them ends after them; if it does not, it is killed too.
KILL_LAUNCHER_AFTER_S = 15.0


@dataclass(frozen=True, slots=True)
class Leader:
    """Rank 0 and the processes above it, up to the one that `train` started."""

    pid: int
    above: frozenset[int]


class UndeclaredRanks:
    """The processes of one attempt on this host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ticked_at = 0.0
        self._leader: Leader | None = None
        self._asked_at = 0.0
        self._terminated_at: float | None = None
        self._has_seen_end = False
        # Whether there are processes that still have to end.
        self.remain = False

    @property
    def are_known(self) -> bool:
        """Return whether undeclared ranks were noticed."""
        return (self._folder / STOPPING_FILE).exists() or any(self._folder.glob("beside-*.json"))

    @property
    def are_to_stop(self) -> bool:
        """Return whether rank 0 was asked to stop while other ranks were training."""
        return (self._folder / STOPPING_FILE).exists()

    def tick(self, now: float, worker_has_ended: bool) -> None:
        """End the other ranks once rank 0 has ended, or has had time to."""
        # One last time at the end: rank 0 may have been asked to stop, and have ended, since the last tick.
        is_last = worker_has_ended and not self._has_seen_end
        if now - self._ticked_at < UNDECLARED_POLL_INTERVAL_S and not is_last:
            return
        self._ticked_at, self._has_seen_end = now, worker_has_ended
        if self._leader is None:
            self._leader, self._asked_at = self._read_leader(), now
        if self._leader is None:
            return
        leader_lives = psutil.pid_exists(self._leader.pid) and not _is_zombie(self._leader.pid)
        others = self._others(self._leader, leader_lives)
        if self._terminated_at is None and (not leader_lives or self._leader_has_recorded_end() or self._is_late(now)):
            self._terminated_at = now
            _signal(others, signal.SIGTERM)
        waited_s = 0.0 if self._terminated_at is None else now - self._terminated_at
        if waited_s > KILL_UNDECLARED_AFTER_S:
            _signal(others, signal.SIGKILL)
        if waited_s > KILL_LAUNCHER_AFTER_S and not leader_lives:
            self.kill()
        self.remain = bool(others)

    def kill(self) -> None:
        """Kill all processes of the attempt on this host, in whatever session."""
        _signal(self._marked(), signal.SIGKILL)

    def _is_late(self, now: float) -> bool:
        return now - self._asked_at > END_UNDECLARED_AFTER_S

    def _leader_has_recorded_end(self) -> bool:
        return last_record(self._folder, 0) is not None

    def _others(self, leader: Leader, leader_lives: bool) -> list[psutil.Process]:
        spared = {leader.pid, *leader.above}
        if leader_lives:
            # DataLoader workers of rank 0.
            with contextlib.suppress(psutil.Error):
                spared |= {child.pid for child in psutil.Process(leader.pid).children(recursive=True)}
        return [process for process in self._marked() if process.pid not in spared]

    def _marked(self) -> list[psutil.Process]:
        found = []
        own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                # A process of another user, or one that is gone, is not part of the attempt.
                marked = process.environ().get(FOLDER_VARIABLE) == str(self._folder)
                if marked and process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _read_leader(self) -> Leader | None:
        try:
            record = json.loads((self._folder / STOPPING_FILE).read_text())
            here = record["host"] == socket.gethostname()
            return Leader(int(record["pid"]), frozenset(map(int, record["above"]))) if here else Leader(0, frozenset())
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)
