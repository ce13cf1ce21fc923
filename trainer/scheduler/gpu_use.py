"""The memory in use on the GPUs of this host: by our trainings, and by other programs.

Other people's programs are respected: docs/running.md describes when a GPU counts as free.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from steersman.agent.folders import attempt_folder, below, recorded_workers
from steersman.agent.machine.devices import Device, DeviceReader
from steersman.agent.machine.nvml import Processes
from steersman.gpu_memory import GpuRoom, room
from steersman.slots import HostDevices
from trainer.scheduler.host_slots import Holder


class GpuUse:
    """Separates our own use of each GPU from that of others, with the readings of `reader`."""

    def __init__(self, reader: DeviceReader, data: Path) -> None:
        self._reader = reader
        self._data = data
        # When a training of ours last held each GPU, by `time.monotonic`.
        self._held_at: dict[str, float] = {}
        self._rooms: dict[str, GpuRoom] = {}

    def seen(self, devices: HostDevices, holders: Sequence[Holder]) -> HostDevices:
        """Return `devices` with the free memory of each GPU that has a reading.

        GPUs without a reading since a training left them are marked as unread.
        """
        read_at, processes = self._reader.processes()
        now = time.monotonic()
        held = {device for holder in holders for device in holder.devices}
        left = frozenset(
            gpu for gpu in devices.gpus if gpu not in held and self._held_at.get(gpu, float("-inf")) >= read_at
        )
        self._held_at |= dict.fromkeys(held, now)
        # Only for the processes on the GPUs, which are few: a host may run thousands of others.
        ours = below({pid for each in processes.values() for pid in each}, _workers(self._data, holders))
        needs: dict[str, list[int | None]] = defaultdict(list)
        for holder in holders:
            for device in holder.devices:
                needs[device].append(holder.run.gpu_memory_mib)
        self._rooms = {
            uuid: room(
                total=total,
                used=used,
                own_used=own_use(processes.get(uuid, {}), ours),
                needs=needs[uuid],
                slots=devices.gpu_slots,
                share=settings.STEERSMAN_GPU_SHARE,
            )
            for uuid, used, total in _memory(self._reader.latest_gpus())
            if uuid not in left
        }
        return replace(devices, rooms=self._rooms, unread=left)

    def published(self) -> list[Device]:
        """Return the devices of this host, with the free memory of each GPU at the last reading."""
        rooms = self._rooms
        return [
            device | (rooms[device["uuid"]].as_wire() if device["uuid"] in rooms else {})
            for device in self._reader.latest()
        ]


def own_use(processes: Processes, pids: set[int]) -> int | None:
    """Return how many MiB of a GPU the processes `pids` use, None if the driver reports it for none of them."""
    own = [used for pid, used in processes.items() if pid in pids]
    known = [used for used in own if used is not None]
    return sum(known) if known and len(known) == len(own) else None


def _memory(devices: Iterable[Device]) -> list[tuple[str, int, int]]:
    """Return UUID, used and total MiB of each GPU whose memory is known."""
    return [
        (device["uuid"], device["memory_used_mib"], device["memory_total_mib"])
        for device in devices
        if device["uuid"] and device["memory_used_mib"] is not None and device["memory_total_mib"]
    ]


def _workers(data: Path, holders: Iterable[Holder]) -> set[int]:
    """Return the workers of live trainings."""
    found: set[int] = set()
    for holder in holders:
        if holder.attempt is not None:
            workers = recorded_workers(attempt_folder(data, holder.run.pk, holder.attempt.number))
            found |= {worker.pid for worker in workers if worker.is_alive()}
    return found
