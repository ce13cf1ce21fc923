"""Reads the training host and the worker's processes through psutil. Imports neither Django nor torch."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import psutil

from steersman.agent.machine.units import GIB, MIB


class HostReader:
    """Reads the host, and the process trees below the workers while they exist.

    CPU fractions cover the time since the previous reading, so the first reading has none.
    """

    def __init__(self, worker_pid: int | None, data: Path | None) -> None:
        self._data = data
        # The newest request: the reading thread compares it with its own, so that none is lost.
        self.pids: tuple[int, ...] = () if worker_pid is None else (worker_pid,)
        self._workers: dict[int, psutil.Process | None] = {}
        self._cpu_seconds: dict[tuple[int, float], float] = {}
        self._read_at = 0.0
        self._primed = False

    def read(self) -> dict[str, float]:
        """Return values named `host/…`: CPU in %, memory in MiB, free disk in GiB; the worker's CPU in % of a core."""
        memory = psutil.virtual_memory()
        values = {
            # "Available" includes what the kernel can free; "free" would count the disk cache as used.
            "host/memory_used_mib": (memory.total - memory.available) / MIB,
            "host/memory_total_mib": memory.total / MIB,
        }
        cpu = psutil.cpu_percent(interval=None)
        if self._primed:
            values["host/cpu"] = cpu
        self._primed = True
        if self._data is not None:
            # If the data folder is unavailable for a moment (network disk), the other values are still reported.
            with contextlib.suppress(OSError):
                values["host/disk_free_gib"] = shutil.disk_usage(self._data).free / GIB
        return values | self._read_worker()

    @staticmethod
    def _find(pid: int) -> psutil.Process | None:
        try:
            return psutil.Process(pid)
        except psutil.Error:
            return None

    def _processes(self) -> list[psutil.Process]:
        """Return the workers and their descendants.

        A process that ended is not replaced by another one with its pid.
        """
        found: list[psutil.Process] = []
        for pid in self.pids:
            if pid not in self._workers:
                self._workers[pid] = self._find(pid)
            worker = self._workers[pid]
            if worker is None:
                continue
            try:
                found += [worker, *worker.children(recursive=True)]
            except psutil.Error:
                self._workers[pid] = None
        return found

    def _read_worker(self) -> dict[str, float]:
        processes = self._processes()
        if not processes:
            return {}
        now = time.monotonic()
        before, elapsed = self._cpu_seconds, now - self._read_at
        self._cpu_seconds, self._read_at = {}, now
        used_s, resident = 0.0, 0
        for process in processes:
            try:
                times = process.cpu_times()
                resident += process.memory_info().rss
                key = (process.pid, process.create_time())
            except psutil.Error:
                # Ended between the listing and the reading, as DataLoader workers do.
                continue
            self._cpu_seconds[key] = times.user + times.system
            used_s += self._cpu_seconds[key] - before.get(key, 0.0 if before else self._cpu_seconds[key])
        values = {"host/worker_rss_mib": resident / MIB}
        if before and elapsed > 0:
            values["host/worker_cpu"] = 100 * used_s / elapsed
        return values
