"""Where a run's files lie under the data folder, and which process holds what. No Django, no torch."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from coxswain.locks import try_lock
from coxswain.run import CLOSED_FILE, worker_lock_path


def run_folder(data: Path, run_id: int) -> Path:
    return data / "runs" / str(run_id)


def attempt_folder(data: Path, run_id: int, number: int) -> Path:
    return run_folder(data, run_id) / "attempts" / str(number)


def make_private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def boot_id() -> str:
    """Return what tells one boot of this kernel from another (random(4), proc(5))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(psutil.boot_time())


def host_name() -> str:
    return socket.gethostname()


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker by its pid and start time, so that a pid that was given again is not mistaken for it."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> WorkerProcess:
        """Raises `psutil.NoSuchProcess` where it has ended already."""
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def recorded(cls, folder: Path) -> WorkerProcess | None:
        """Return the worker that was started for this attempt, None where none was."""
        try:
            fields = json.loads((folder / "worker.json").read_text())
            return cls(fields["pid"], fields["started_at"])
        except (OSError, ValueError, KeyError):
            return None

    def record(self, folder: Path) -> None:
        path = folder / "worker.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"pid": self.pid, "started_at": self.started_at}))
        os.replace(temporary, path)

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.started_at and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def living_worker(folder: Path) -> WorkerProcess | None:
    """Return the attempt's worker if it lives: by its record, or by the lock that it holds."""
    recorded = WorkerProcess.recorded(folder)
    if recorded is not None and recorded.is_alive():
        return recorded
    return None


def close_attempt(folder: Path) -> bool:
    """Keep a worker that comes late from training in `folder`; return False where one lives and holds its lock."""
    lock = try_lock(worker_lock_path(folder, 0))
    if lock is None:
        return False
    (folder / CLOSED_FILE).touch(mode=0o600)
    lock.release()
    return True
