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
        # By rank. The owner replaces it as a whole, so that the reading thread sees one request or the next.
        self.pids: dict[int, int] = {} if worker_pid is None else {0: worker_pid}
        self._workers: dict[int, psutil.Process | None] = {}
        self._cpu_seconds: dict[tuple[int, float], float] = {}
        self._read_at = 0.0
        self._primed = False

    def read(self) -> dict[str, float]:
        """Return values named `host/…`: CPU in %, memory in MiB, free disk in GiB; the worker's CPU in % of a core.

        If there are several workers, each has values of its own, named `host/rank/<k>/…`.
        """
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

    def _processes(self) -> list[tuple[int, psutil.Process]]:
        """Return the workers and their descendants, each with the rank.

        A process that ended is not replaced by another one with its pid.
        """
        found: list[tuple[int, psutil.Process]] = []
        for rank, pid in self.pids.items():
            if pid not in self._workers:
                self._workers[pid] = self._find(pid)
            worker = self._workers[pid]
            if worker is None:
                continue
            try:
                found += [(rank, process) for process in (worker, *worker.children(recursive=True))]
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
        used_s: dict[int, float] = {}
        resident: dict[int, int] = {}
        for rank, process in processes:
            try:
                times = process.cpu_times()
                bytes_used = process.memory_info().rss
                key = (process.pid, process.create_time())
            except psutil.Error:
                # Ended between the listing and the reading, as DataLoader workers do.
                continue
            self._cpu_seconds[key] = times.user + times.system
            spent = self._cpu_seconds[key] - before.get(key, 0.0 if before else self._cpu_seconds[key])
            used_s[rank] = used_s.get(rank, 0.0) + spent
            resident[rank] = resident.get(rank, 0) + bytes_used
        values = {"host/worker_rss_mib": sum(resident.values()) / MIB}
        has_cpu = bool(before) and elapsed > 0
        if has_cpu:
            values["host/worker_cpu"] = 100 * sum(used_s.values()) / elapsed
        if len(self.pids) > 1:
            for rank in resident:
                values[f"host/rank/{rank}/rss_mib"] = resident[rank] / MIB
                if has_cpu:
                    values[f"host/rank/{rank}/cpu"] = 100 * used_s[rank] / elapsed
        return values
