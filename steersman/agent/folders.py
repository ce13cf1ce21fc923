"""The paths of a run's files in the data folder, and the processes that hold locks. No Django, no torch."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from steersman.files.locks import try_lock
from steersman.files.private import write_private
from steersman.run import CLOSED_FILE, worker_lock_path


def run_folder(data: Path, run_id: int) -> Path:
    return data / "runs" / str(run_id)


def attempt_folder(data: Path, run_id: int, number: int) -> Path:
    return run_folder(data, run_id) / "attempts" / str(number)


def boot_id() -> str:
    """Return the identity of this boot of the kernel (random(4), proc(5))."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(psutil.boot_time())


def host_name() -> str:
    return socket.gethostname()


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker by its pid and start time, so that another process with the same pid is not mistaken for it."""

    pid: int
    started_at: float
    # The boot of the kernel under which it was started, "" if unknown.
    boot: str = field(default="", compare=False)

    @classmethod
    def of(cls, pid: int) -> WorkerProcess:
        """Return the process with this pid. Raises `psutil.NoSuchProcess` if it has already ended."""
        return cls(pid, psutil.Process(pid).create_time(), boot_id())

    @classmethod
    def recorded(cls, folder: Path, rank: int = 0) -> WorkerProcess | None:
        """Return the worker that was started for this attempt and rank, None if none was."""
        return cls.read(_worker_path(folder, rank))

    @classmethod
    def read(cls, path: Path) -> WorkerProcess | None:
        try:
            fields = json.loads(path.read_text())
            return cls(fields["pid"], fields["started_at"], fields.get("boot", ""))
        except (OSError, ValueError, KeyError):
            return None

    def record(self, folder: Path, rank: int = 0) -> None:
        self.write(_worker_path(folder, rank))

    def write(self, path: Path) -> None:
        write_whole(path, json.dumps({"pid": self.pid, "started_at": self.started_at, "boot": self.boot}))

    @property
    def was_before_reboot(self) -> bool:
        """Whether the host was rebooted after this process was started."""
        return self.boot not in ("", boot_id())

    def is_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            return process.create_time() == self.started_at and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def _worker_path(folder: Path, rank: int) -> Path:
    return folder / ("worker.json" if rank == 0 else f"worker-{rank:04d}.json")


def write_whole(path: Path, text: str) -> None:
    """Replace a file atomically: no reader sees an incomplete file."""
    temporary = path.with_suffix(".new")
    write_private(temporary, text)
    os.replace(temporary, path)


def record_exit(folder: Path, rank: int, code: int) -> None:
    """Store how a rank's process ended, for a supervisor that did not start it; `code` as in `subprocess`."""
    write_whole(folder / f"exit-{rank:04d}.json", json.dumps({"code": code}))


def recorded_exit(folder: Path, rank: int) -> int | None:
    """Return how a rank's process ended, None if it is unknown."""
    try:
        return int(json.loads((folder / f"exit-{rank:04d}.json").read_text())["code"])
    except (OSError, ValueError, KeyError):
        return None


def living_worker(folder: Path, ranks: int = 1) -> WorkerProcess | None:
    """Return a live worker of the attempt, by its record."""
    recorded = [WorkerProcess.recorded(folder, rank) for rank in range(ranks)]
    return next((worker for worker in recorded if worker is not None and worker.is_alive()), None)


def any_worker_lives(folder: Path) -> bool:
    """Return whether a training process of the attempt is alive, including one that is not recorded yet."""
    if living_worker(folder, _recorded_ranks(folder)) is not None:
        return True
    for path in folder.glob("worker-*.lock"):
        lock = try_lock(path)
        if lock is None:
            return True
        lock.release()
    return False


def recorded_workers(folder: Path) -> list[WorkerProcess]:
    """Return the workers that were started for an attempt, alive or not."""
    found = [WorkerProcess.recorded(folder, rank) for rank in range(_recorded_ranks(folder))]
    return [worker for worker in found if worker is not None]


def below(pids: Iterable[int], above: Collection[int]) -> set[int]:
    """Return those of `pids` that are in `above`, or descend from a process in `above`."""
    return {pid for pid in pids if pid in above or any(parent in above for parent in _parents(pid))}


def _parents(pid: int) -> list[int]:
    """Return the ancestors of a process, the nearest first; none if it has ended."""
    try:
        return [parent.pid for parent in psutil.Process(pid).parents()]
    except psutil.Error:
        return []


def _recorded_ranks(folder: Path) -> int:
    return 1 + max((int(path.stem.removeprefix("worker-")) for path in folder.glob("worker-*.json")), default=0)


def close_attempt(folder: Path, ranks: int = 1) -> bool:
    """Prevent workers that start late from training in `folder`; return False if one is alive and holds its lock."""
    locks = [try_lock(worker_lock_path(folder, rank)) for rank in range(ranks)]
    held = [lock for lock in locks if lock is not None]
    if len(held) == ranks:
        (folder / CLOSED_FILE).touch(mode=0o600)
    for lock in held:
        lock.release()
    return len(held) == ranks
