"""Ranks that nobody declared, once the training is to stop: rank 0 hears of it, the others are ended.

torchrun starts them in sessions of their own, so they are known by the attempt that their environment names. No Django,
no torch.
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

POLL_INTERVAL_S = 0.25
# Rank 0 may save a checkpoint; the others wait for it in vain, or fail, and need not be there for that.
PATIENCE_S = 10.0
KILL_UNDECLARED_AFTER_S = 5.0
# Whoever started them ends when they have; one that does not is ended too.
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
        self._told_at: float | None = None
        self._saw_the_end = False
        # Whether processes are there that are still to end.
        self.remain = False

    @property
    def are_known(self) -> bool:
        """Tell whether ranks that nobody declared have been there."""
        return (self._folder / STOPPING_FILE).exists() or any(self._folder.glob("beside-*.json"))

    @property
    def are_to_stop(self) -> bool:
        """Tell whether rank 0 was to stop while others trained beside it."""
        return (self._folder / STOPPING_FILE).exists()

    def tick(self, now: float, worker_has_ended: bool) -> None:
        """End the others once rank 0 has ended, or has had its time."""
        # Looked at once more at the end: rank 0 may have been asked, and have ended, since the last look.
        is_last = worker_has_ended and not self._saw_the_end
        if now - self._ticked_at < POLL_INTERVAL_S and not is_last:
            return
        self._ticked_at, self._saw_the_end = now, worker_has_ended
        if self._leader is None:
            self._leader, self._asked_at = self._read_leader(), now
        if self._leader is None:
            return
        leader_lives = psutil.pid_exists(self._leader.pid) and not _is_zombie(self._leader.pid)
        others = self._others(self._leader, leader_lives)
        if self._told_at is None and (not leader_lives or self._has_said_its_last() or self._is_late(now)):
            self._told_at = now
            _signal(others, signal.SIGTERM)
        waited_s = 0.0 if self._told_at is None else now - self._told_at
        if waited_s > KILL_UNDECLARED_AFTER_S:
            _signal(others, signal.SIGKILL)
        if waited_s > KILL_LAUNCHER_AFTER_S and not leader_lives:
            self.kill()
        self.remain = bool(others)

    def kill(self) -> None:
        """Kill all processes of the attempt on this host, whatever session they are in."""
        _signal(self._marked(), signal.SIGKILL)

    def _is_late(self, now: float) -> bool:
        return now - self._asked_at > PATIENCE_S

    def _has_said_its_last(self) -> bool:
        return last_record(self._folder, 0) is not None

    def _others(self, leader: Leader, leader_lives: bool) -> list[psutil.Process]:
        spared = {leader.pid, *leader.above}
        if leader_lives:
            # Its loader's workers.
            with contextlib.suppress(psutil.Error):
                spared |= {child.pid for child in psutil.Process(leader.pid).children(recursive=True)}
        return [process for process in self._marked() if process.pid not in spared]

    def _marked(self) -> list[psutil.Process]:
        found = []
        own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                # Of another user, or gone: not ours in any case.
                marked = process.environ().get(FOLDER_VARIABLE) == str(self._folder)
                if marked and process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _read_leader(self) -> Leader | None:
        try:
            told = json.loads((self._folder / STOPPING_FILE).read_text())
            here = told["host"] == socket.gethostname()
            return Leader(int(told["pid"]), frozenset(map(int, told["above"]))) if here else Leader(0, frozenset())
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
