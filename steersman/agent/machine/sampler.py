"""Samples GPUs and host beside a training, each in a separate thread, because a driver may hang.

Imports neither Django nor torch. The supervisor calls `latest()`, which never waits.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.machine import gpu_fields, nvml
from steersman.agent.machine.disk_watch import DiskWatch
from steersman.agent.machine.host import HostReader
from steersman.agent.machine.throttling import ThrottleNote, ThrottleWatch
from steersman.messages.reports import GpuDescription

# GPU values older than this many intervals are not used.
STALE_INTERVALS = 5
# If a GPU was lost or the list is empty, GPUs are searched for again after this many readings.
LOOK_AGAIN_EVERY = 30
# Slow values are read once in this many readings.
SLOW_EVERY = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """Values by name at `time` (seconds since the epoch, UTC). Units in docs/protocol.md."""

    time: float
    values: dict[str, float]


class Sampler:
    """Reads host, worker and GPUs every `interval_s`; `device` is the run's device, such as cuda:1.

    The thread for the host also looks at `disks`.
    """

    def __init__(
        self,
        worker_pid: int | None = None,
        *,
        data: Path | None = None,
        device: str = "auto",
        interval_s: float = 1.0,
        disks: DiskWatch | None = None,
    ) -> None:
        self._disks = disks
        self._device = device
        self._interval_s = interval_s
        self._visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self._host = HostReader(worker_pid, data)
        # The newest request: the thread compares it with its own, so that none is lost.
        self._uuids: tuple[str, ...] = ()
        self._stop = threading.Event()
        self._host_sample: Sample | None = None
        self._gpu_sample: Sample | None = None
        self._slow_values: deque[dict[str, float]] = deque(maxlen=1)
        self._gpu_pass_began: float | None = None
        self._throttling = ThrottleWatch()
        self._notes: deque[ThrottleNote] = deque(maxlen=100)
        self._reported = ""
        self._host_problem = ""
        # The descriptions of the sampled GPUs, in CUDA's order; empty until they are read, and if there are none.
        self.gpus: tuple[GpuDescription, ...] = ()
        # The number of GPUs of this host, in use or not; None until it is known, and if none is sampled.
        self.boards: int | None = None

    def start(self) -> Sampler:
        """Start reading. Both threads are daemons, so that a hanging driver cannot delay the exit."""
        threading.Thread(target=self._read_host, name="host-samples", daemon=True).start()
        if self._device != "cpu":
            threading.Thread(target=self._read_gpus, name="gpu-samples", daemon=True).start()
        return self

    def stop(self) -> None:
        """Ask the threads to end; returns immediately."""
        self._stop.set()

    def follow(self, pids: Mapping[int, int]) -> None:
        """Count the resources used by the processes with these ids, by rank, and by their descendants."""
        self._host.pids = dict(pids)

    def watch(self, uuids: Sequence[str]) -> None:
        """Sample the GPUs with these UUIDs (in torch's or NVML's notation) instead of the visible ones."""
        self._uuids = tuple(uuids)

    def latest(self) -> Sample | None:
        """Return the newest host sample with GPU values not older than 5 intervals; None before the first sample."""
        host, gpus = self._host_sample, self._gpu_sample
        if host is None:
            return None
        if gpus is None or host.time - gpus.time > STALE_INTERVALS * self._interval_s:
            return host
        return Sample(host.time, host.values | gpus.values)

    def take(self) -> Sample | None:
        """Return `latest()` with new values of the fields that are read only every ten intervals."""
        sample = self.latest()
        if sample is None or not self._slow_values:
            return sample
        return Sample(sample.time, sample.values | self._slow_values.popleft())

    def take_notes(self) -> list[ThrottleNote]:
        """Return the messages about the GPUs since the last call."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    @property
    def problem(self) -> str:
        """Return why the host or its GPUs cannot be sampled, "" if there is no problem."""
        began = self._gpu_pass_began
        if began is not None and time.monotonic() - began > STALE_INTERVALS * self._interval_s:
            return "GPUs are not sampled: the NVIDIA driver does not answer."
        return self._reported or self._host_problem

    def _read_host(self) -> None:
        while True:
            try:
                if self._disks is not None:
                    self._disks.look(time.monotonic())
                values = self._host.read()
                self._host_problem = ""
            except Exception as error:  # a host may lack any of these; GPUs are sampled anyway
                values = {}
                self._host_problem = (
                    f"CPU, memory and disk of the host are not sampled ({type(error).__name__}: {error})."
                )
            self._host_sample = Sample(time.time(), values)
            if self._stop.wait(self._interval_s):
                return

    def _read_gpus(self) -> None:
        gpus: list[nvml.Gpu] = []
        uuids = self._uuids
        opened = lost = False
        readings = 0
        while True:
            self._gpu_pass_began = time.monotonic()
            try:
                if not opened:
                    nvml.open_nvml()
                    opened = True
                if readings % LOOK_AGAIN_EVERY == 0 or uuids != self._uuids:
                    if lost:
                        gpus = []
                        nvml.reopen_nvml()
                        lost = False
                    uuids = self._uuids
                    gpus = self._chosen(gpus, uuids)
                answering = self._read_each(gpus)
                if readings % SLOW_EVERY == 0:
                    answering = self._read_slow(answering)
                lost = lost or len(answering) < len(gpus)
                gpus = answering
            except nvml.NoGpus as error:
                self._reported = f"GPUs are not sampled: {error}."
                self.boards = self.boards or 0
                lost = True
                if not opened:
                    return
            finally:
                self._gpu_pass_began = None
            readings += 1
            if self._stop.wait(self._interval_s):
                return

    def _chosen(self, before: list[nvml.Gpu], uuids: tuple[str, ...]) -> list[nvml.Gpu]:
        found = nvml.list_gpus()
        if self.boards is None:
            self.boards = 1 + max((int(gpu.board_name) for gpu in found), default=-1)
        chosen = nvml.choose(found, visible=self._visible, uuids=uuids, device=self._device)
        known = {gpu.uuid: gpu for gpu in before}
        self.gpus = tuple(nvml.describe(gpu) for gpu in chosen)
        self._reported = "" if chosen else "GPUs are not sampled: none is visible to this training."
        return [known.get(gpu.uuid, gpu) for gpu in chosen]

    def _read_each(self, gpus: list[nvml.Gpu]) -> list[nvml.Gpu]:
        """Publish a sample of `gpus` and return those that still answer."""
        values: dict[str, float] = {}
        masks: dict[str, int] = {}
        answering = []
        for gpu in gpus:
            try:
                of_gpu = gpu_fields.read(gpu)
            except nvml.GpuLost as error:
                self._reported = f"GPU {gpu.name} is no longer sampled: {error}."
                continue
            values |= of_gpu
            answering.append(gpu)
            mask = of_gpu.get(f"gpu/{gpu.name}/throttle_reasons")
            if mask is not None:
                masks[gpu.board_name] = int(mask)
        if values:
            self._gpu_sample = Sample(time.time(), values)
        self._notes.extend(self._throttling.changes(masks, time.monotonic()))
        return answering

    def _read_slow(self, gpus: list[nvml.Gpu]) -> list[nvml.Gpu]:
        """Store the slow values of `gpus` for `take`, and return the GPUs that still answer."""
        values: dict[str, float] = {}
        answering = []
        for gpu in gpus:
            try:
                values |= gpu_fields.read_slow(gpu)
                answering.append(gpu)
            except nvml.GpuLost as error:
                self._reported = f"GPU {gpu.name} is no longer sampled: {error}."
        if values:
            self._slow_values.append(values)
        return answering
