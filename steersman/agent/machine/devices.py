"""The devices of this host and their current use, for choosing one. Imports neither Django nor torch.

GPUs are read in a separate thread: if a driver hangs, only their use is unknown.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import psutil

from steersman.agent.machine import gpu_fields, nvml
from steersman.agent.machine.units import MIB

READ_INTERVAL_S = 1.0
# Older readings are outdated.
STALE_S = 10.0
# The list itself is read again after this many readings: GPUs come and go with drivers and MIG.
LIST_EVERY = 30

# Keys: device (as in `train --device`), title, uuid ("" of the CPU), utilisation (%), memory_used_mib,
# memory_total_mib; null: unknown.
Device = dict[str, Any]


class DeviceReader:
    """Reads CPU and GPUs; `latest` never waits."""

    def __init__(self) -> None:
        self._gpus: list[Device] = []
        self._processes: dict[str, nvml.Processes] = {}
        self._read_at = 0.0
        self._stop = threading.Event()
        psutil.cpu_percent(interval=None)  # the first reading is the start of the first interval

    def start(self) -> DeviceReader:
        """Start reading GPUs. The thread is a daemon, so that a hanging driver cannot delay the exit."""
        threading.Thread(target=self._read_gpus, name="devices", daemon=True).start()
        return self

    def stop(self) -> None:
        self._stop.set()

    def latest(self) -> list[Device]:
        """Return the CPU and every GPU that a training here would see, cuda:0 first."""
        memory = psutil.virtual_memory()
        cpu = _device("cpu", f"CPU, {psutil.cpu_count() or 1} cores")
        cpu |= {
            "utilisation": psutil.cpu_percent(interval=None),
            "memory_used_mib": round((memory.total - memory.available) / MIB),
            "memory_total_mib": round(memory.total / MIB),
        }
        return [cpu, *self.latest_gpus()]

    def latest_gpus(self) -> list[Device]:
        """Return every GPU that a training here would see, cuda:0 first."""
        gpus = self._gpus
        if time.monotonic() - self._read_at > STALE_S:
            gpus = [_device(gpu["device"], gpu["title"], gpu["uuid"]) for gpu in gpus]
        return gpus

    def gpus(self) -> list[str] | None:
        """Return the UUIDs of the GPUs that a training here would see, cuda:0 first; None before the driver's answer.

        If the driver hangs later, the last known ones are returned.
        """
        return [str(gpu["uuid"]) for gpu in self._gpus] if self._read_at else None

    def processes(self) -> tuple[float, dict[str, nvml.Processes]]:
        """Return when the GPUs were last read, by `time.monotonic`, and the processes that held memory of each."""
        return self._read_at, self._processes

    def _read_gpus(self) -> None:
        gpus: list[nvml.Gpu] = []
        readings = 0
        while True:
            try:
                if readings % LIST_EVERY == 0:
                    # Reload NVML, to find a driver that was loaded since, or a GPU that came back.
                    nvml.reopen_nvml()
                    gpus = nvml.separate(nvml.list_gpus(), visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
            except nvml.NoGpus:
                gpus = []
            began = time.monotonic()
            processes = {gpu.uuid: nvml.processes(gpu) for gpu in gpus}
            self._gpus = [_read(index, gpu) for index, gpu in enumerate(gpus)]
            # The time when reading began: a training that ended during it may still have been listed.
            self._processes, self._read_at = processes, began
            readings += 1
            if self._stop.wait(READ_INTERVAL_S):
                return


def _read(index: int, gpu: nvml.Gpu) -> Device:
    device = _device(f"cuda:{index}", _title(gpu), gpu.uuid)
    try:
        values = gpu_fields.read(gpu)
    except nvml.GpuLost:
        return device
    for key in ("utilisation", "memory_used_mib", "memory_total_mib"):
        value = values.get(f"gpu/{gpu.name}/{key}")
        device[key] = None if value is None else round(value)
    return device


def _title(gpu: nvml.Gpu) -> str:
    try:
        return str(nvml.pynvml.nvmlDeviceGetName(gpu.board))
    except nvml.pynvml.NVMLError:
        return "GPU"


def _device(name: str, title: str, uuid: str = "") -> Device:
    use = dict.fromkeys(("utilisation", "memory_used_mib", "memory_total_mib"))
    return {"device": name, "title": title, "uuid": uuid} | use
