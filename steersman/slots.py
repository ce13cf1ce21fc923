"""The queued runs that a host may start now, and the order of the waiting ones. Imports neither Django nor torch.

A host has devices, each with a number of slots. A run takes a slot of each device that it trains on, from the moment it
is claimed to its end. docs/running.md describes the rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from steersman.gpu_memory import GpuRoom, Obstacle

CPU = "cpu"
DEVICE_NAME = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
MIG_PREFIX = "MIG-"
MOST_SLOTS = 64


@dataclass(frozen=True, slots=True)
class HostDevices:
    """The devices of one host: `gpus` by UUID in the order of cuda:0, cuda:1, …, and the slots of each kind."""

    gpus: tuple[str, ...] = ()
    gpu_slots: int = 1
    cpu_slots: int = 1
    # Only for GPUs whose memory the driver reports.
    rooms: Mapping[str, GpuRoom] = field(default_factory=dict)
    # GPUs that a training has just left: the last reading still includes its memory.
    unread: frozenset[str] = frozenset()

    def slots(self) -> dict[str, int]:
        return {CPU: self.cpu_slots} | dict.fromkeys(self.gpus, self.gpu_slots)


@dataclass(frozen=True, slots=True)
class Wish:
    """The request of a queued run: `device` as in `train --device`, `ranks` processes, `host` "" for any."""

    run_id: int
    device: str = "auto"
    ranks: int = 1
    host: str = ""
    # Per GPU; None: not declared.
    gpu_memory_mib: int | None = None


def candidates(wish: Wish, devices: HostDevices) -> tuple[str, ...]:
    """Return the devices of a host that the run could use; it needs `needed` of them."""
    kind, _, index = wish.device.partition(":")
    if kind == CPU or (kind == "auto" and not devices.gpus):
        return (CPU,)
    if index:
        return devices.gpus[int(index) : int(index) + 1] if index.isdecimal() else ()
    if wish.ranks > 1:
        # CUDA shows only one MIG instance to a process, so several ranks cannot get a GPU each.
        return tuple(gpu for gpu in devices.gpus if not gpu.startswith(MIG_PREFIX))
    return devices.gpus


def needed(wish: Wish, devices: HostDevices) -> int:
    """Return how many devices the run takes: a GPU per rank, but the CPU only once."""
    return 1 if candidates(wish, devices) == (CPU,) else wish.ranks


def fits(wish: Wish, devices: HostDevices) -> bool:
    """Return whether the host has the devices at all, even if they are in use now."""
    return len(candidates(wish, devices)) >= needed(wish, devices)


def plan(wishes: Sequence[Wish], devices: HostDevices, held: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """Return which of `wishes`, in the order of the queue, start now, and on which devices.

    `held` names a device once for each slot in use. A waiting run reserves each free slot that it could use against
    later runs, because it would otherwise never get K devices; it blocks nothing else. If a run was queued for this
    host, and the host does not have the devices, it starts without any: `train` then reports the missing ones. A run
    for any host is left to the others. A GPU whose memory others use is not taken, and a GPU that is too small in any
    case is not reserved.
    """
    free = Counter(devices.slots())
    free.subtract(held)
    rooms = dict(devices.rooms)
    starts: dict[int, tuple[str, ...]] = {}
    for wish in wishes:
        if too_large(wish, devices):
            continue
        if not fits(wish, devices):
            if wish.host:
                starts[wish.run_id] = ()
            continue
        count = needed(wish, devices)
        slots = [device for device in candidates(wish, devices) if free[device] > 0]
        found = {device: _obstacle(wish, rooms.get(device)) for device in slots}
        open_to_it = [device for device in slots if found[device] is None and device not in devices.unread]
        # The device with most free slots first; of equal ones, the first.
        chosen = sorted(open_to_it, key=lambda device: -free[device])[:count]
        taken = tuple(device for device in open_to_it if device in chosen)
        if len(taken) == count:
            starts[wish.run_id] = taken
            for device in taken:
                if (room := rooms.get(device)) is not None:
                    rooms[device] = replace(room, free=room.free - room.need(wish.gpu_memory_mib))
        else:
            closed = [device for device in slots if device not in open_to_it]
            kept = [device for device in closed if found[device] is not Obstacle.TOO_SMALL]
            taken = tuple([*open_to_it, *kept][:count])
        free.subtract(taken)
    return starts


def too_large(wish: Wish, devices: HostDevices) -> bool:
    """Return whether the host has the devices, but too few of them with the requested memory."""
    asked = wish.gpu_memory_mib
    if asked is None or not fits(wish, devices) or candidates(wish, devices) == (CPU,):
        return False
    rooms = [devices.rooms.get(device) for device in candidates(wish, devices)]
    return sum(room is None or asked <= room.total for room in rooms) < needed(wish, devices)


def _obstacle(wish: Wish, room: GpuRoom | None) -> Obstacle | None:
    return None if room is None else room.obstacle(wish.gpu_memory_mib)


def obstacles(wish: Wish, devices: HostDevices) -> dict[str, Obstacle]:
    """Return why each GPU is unavailable to the run, if too few usable ones are left; nothing otherwise."""
    found = {device: _obstacle(wish, devices.rooms.get(device)) for device in candidates(wish, devices)}
    open_to_it = [device for device, obstacle in found.items() if obstacle is None]
    if not fits(wish, devices) or len(open_to_it) >= needed(wish, devices):
        return {}
    return {device: obstacle for device, obstacle in found.items() if obstacle is not None}


def compete(first: Wish, second: Wish, hosts: Mapping[str, HostDevices]) -> bool:
    """Return whether both runs could use the same device of the known `hosts`, or of an unknown one."""
    if first.host and second.host and first.host != second.host:
        return False
    named = first.host or second.host
    if named and named not in hosts:
        return _may_share(first.device, second.device)
    within = [hosts[named]] if named else list(hosts.values())
    if not within:
        return _may_share(first.device, second.device)
    return any(
        fits(first, devices)
        and fits(second, devices)
        and not set(candidates(first, devices)).isdisjoint(candidates(second, devices))
        for devices in within
    )


def ahead_of(wish: Wish, queue: Sequence[Wish], hosts: Mapping[str, HostDevices]) -> list[int]:
    """Return the runs before `wish` in `queue` that wait for a device that it could use."""
    before: list[int] = []
    for other in queue:
        if other.run_id == wish.run_id:
            break
        if compete(wish, other, hosts):
            before.append(other.run_id)
    return before


def stands_in_for(first: Wish, second: Wish) -> bool:
    """Return whether `first` waits for every device that `second` could use, so that `second` can take its place."""
    devices = {second.device, "cuda", "auto"} if second.device.startswith("cuda") else {second.device}
    return first.host in ("", second.host) and first.device in devices and first.ranks >= second.ranks


def devices_in_use(
    *,
    given: Sequence[str],
    environment: Mapping[str, object],
    wish: Wish,
    devices: HostDevices,
    is_script: bool,
) -> tuple[str, ...]:
    """Return the devices of a run that has started, as far as is known: assigned, reported, or declared.

    A script reports its device with its first records, if at all; for a recipe that has not reported it, the chosen one
    is used.
    """
    if given:
        return tuple(given)
    uuids = environment.get("gpu_uuids")
    if isinstance(uuids, Collection) and uuids:
        return tuple(gpu for uuid in uuids if (gpu := _find(str(uuid), devices.gpus)))
    if not devices.gpus or environment.get("device") == CPU:
        return (CPU,)
    if is_script and wish.device == "auto":
        return ()
    return candidates(wish, devices)[: needed(wish, devices)]


def _find(uuid: str, gpus: Sequence[str]) -> str | None:
    """Return the GPU with a UUID, which torch reports without the prefix "GPU-"."""
    return next((gpu for gpu in gpus if gpu == uuid or gpu.partition("-")[2] == uuid), None)


def _may_share(first: str, second: str) -> bool:
    """Return whether two wishes could compete on a host with unknown devices."""
    return first == second or (CPU not in (first, second) and not ("cuda:" in first and "cuda:" in second))
