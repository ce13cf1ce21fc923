"""Detects that an attempt ended because the GPU or the host ran out of memory. Imports neither Django nor torch."""

from __future__ import annotations

import re
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROCESSES = Path("/proc")
# The kernel's counter rises with the kill; a training whose DataLoader worker was killed ends a little later.
LATELY_S = 30.0

GPU_MESSAGES = re.compile(
    r"^(torch\.(cuda\.)?)?OutOfMemoryError\b|Caught OutOfMemoryError\b"
    r"|\b(CUDA|HIP|XPU) out of memory|MPS backend out of memory|(CUDA|HIP) error: out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED"
)
HOST_MESSAGES = re.compile(
    r"^(\w+\.)*_?(Array)?MemoryError\b|Caught MemoryError\b|^OSError: \[Errno 12\]|DefaultCPUAllocator: "
)
KILLED_CHILD = re.compile(r"DataLoader worker .*(killed by signal: Killed|exited unexpectedly)")

GPU_REMEDY = "Out of GPU memory: make batch_size or the model smaller, or compute in bfloat16."
HOST_REMEDY = "make batch_size or the model smaller, use fewer DataLoader workers, or allow more memory"
KILLED = f"Out of host memory: the kernel ended the process; {HOST_REMEDY}."


def name_out_of_memory(error: str) -> str:
    """Return the line of an exception, with an explanation and a remedy in front of it if it is about memory."""
    if GPU_MESSAGES.search(error):
        return f"{GPU_REMEDY} {error}"
    if HOST_MESSAGES.search(error):
        return f"Out of host memory: {HOST_REMEDY}. {error}"
    return error


def blames_killed_child(error: str) -> bool:
    """Return whether an exception means that a DataLoader process was killed."""
    return KILLED_CHILD.search(error) is not None


class OomKills:
    """Counts the OOM kills in the cgroup of a process.

    A SIGKILL alone proves nothing, because a person may have sent it. Call it at least every few seconds.
    """

    def __init__(self, pid: int, cgroups: Path | None = None, processes: Path | None = None) -> None:
        self._file = _counter(pid, cgroups or CGROUPS, processes or PROCESSES)
        self._count = self._read()
        self._rose_at: float | None = None

    def has_killed(self, now: float | None = None) -> bool:
        """Return whether there was a kill in the last seconds; `now` in seconds of `time.monotonic`."""
        now = time.monotonic() if now is None else now
        count = self._read()
        if count is not None:
            if self._count is not None and count > self._count:
                self._rose_at = now
            self._count = count
        return self._rose_at is not None and now - self._rose_at <= LATELY_S

    def _read(self) -> int | None:
        if self._file is None:
            return None
        try:
            lines = self._file.read_text().splitlines()
        except OSError:
            return None
        counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
        return int(counts[0]) if counts else None


def _counter(pid: int, cgroups: Path, processes: Path) -> Path | None:
    """Return the file that counts the kills in the nearest group with memory accounting, v1 or v2."""
    try:
        lines = (processes / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    paths = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    # If v1 and v2 are both mounted, memory belongs to one of them.
    of_v1 = next((path for controllers, path in paths.items() if "memory" in controllers.split(",")), None)
    if of_v1 is not None:
        return _nearest(cgroups / "memory", of_v1, "memory.oom_control")
    return _nearest(cgroups, paths.get("", "/"), "memory.events")


def _nearest(root: Path, path: str, name: str) -> Path | None:
    # In a container the path may be the host's, of which only the end, or nothing, is mounted.
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        if (folder / name).is_file():
            return folder / name
        if folder == root:
            return None
    return None
