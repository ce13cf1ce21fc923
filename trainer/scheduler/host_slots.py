"""The slots of this host, from the database and the locks: the runs that hold devices, and the next ones to start.

There is no state between two passes, so a watch that was killed and restarted counts the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from runs.models import Attempt, Host, Run, RunState
from runs.recording import queue
from runs.recording.lifecycle import LIVE
from runs.recording.queue_places import wish_of
from steersman.agent.folders import any_worker_lives, attempt_folder
from steersman.slots import CPU, HostDevices, devices_in_use, plan

# Returns whether a supervisor of this host holds a run, or is just starting or ending.
IsHeld = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Beginning:
    """A run to start now, and its devices."""

    run: Run
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that holds devices of this host, with its newest attempt."""

    run: Run
    devices: tuple[str, ...]
    attempt: Attempt | None = None


class GpuMemory(Protocol):
    """The known memory use of this host's GPUs."""

    def seen(self, devices: HostDevices, holders: Sequence[Holder]) -> HostDevices:
        """Return `devices` with their memory in use, after `holders` have taken their slots."""


def host_devices(name: str, gpus: Sequence[str]) -> HostDevices:
    """Return this host's devices, with the slots set in the admin or else in the settings.

    Their memory is not filled in.
    """
    host = Host.objects.filter(name=name).first()
    per_gpu = host.slots_per_device if host else None
    of_cpu = host.cpu_slots if host else None
    return HostDevices(
        tuple(gpus),
        settings.STEERSMAN_SLOTS if per_gpu is None else per_gpu,
        settings.STEERSMAN_CPU_SLOTS if of_cpu is None else of_cpu,
    )


def given_to(run_id: int) -> list[str]:
    """Return the devices that a watch gave to a run, none if a person started it or it was deleted."""
    return Run.objects.filter(pk=run_id).values_list("given_devices", flat=True).first() or []


def next_to_start(
    host: str,
    gpus: Sequence[str] | None,
    *,
    started: Collection[int],
    put_off: Collection[int],
    is_held: IsHeld,
    memory: GpuMemory | None = None,
) -> list[Beginning]:
    """Return the runs that this host starts now.

    `started` are the runs whose `train` process this watch started and that still runs. Runs that are `put_off`,
    because another process holds them, wait outside the queue. Until the `gpus` are known, no run may take the CPU
    because a GPU is missing. `memory` is the memory in use on each.
    """
    waiting = [run for run in queue.waiting_for(host) if gpus is not None or run.device == CPU]
    if not waiting:
        return []
    devices = host_devices(host, gpus or ())
    locked = {run.pk for run in waiting if run.pk in started or is_held(run.pk)}
    free = [run for run in waiting if run.pk not in locked and run.pk not in put_off]
    busy = {*started, *locked}
    holders = list(_held_here(host, devices, lambda pk: pk in busy or is_held(pk), {run.pk for run in free}))
    held = [device for holder in holders for device in holder.devices]
    kept = _kept(free, devices, held)
    holders += [Holder(run, kept[run.pk]) for run in free if run.pk in kept]
    held += [device for taken in kept.values() for device in taken]
    if memory is not None:
        devices = memory.seen(devices, holders)
    chosen = plan([wish_of(run) for run in free if run.pk not in kept], devices, held) | kept
    return [Beginning(run, chosen[run.pk]) for run in free if run.pk in chosen]


def _kept(runs: Sequence[Run], devices: HostDevices, held: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """Return the runs that continue on their devices, after a failure or if a watch was killed while it started them.

    The `train` of such a watch may be about to begin, so no other run may get its device.
    """
    left = Counter(devices.slots())
    left.subtract(held)
    kept: dict[int, tuple[str, ...]] = {}
    for run in runs:
        if run.given_devices and all(left[device] > 0 for device in run.given_devices):
            kept[run.pk] = tuple(run.given_devices)
            left.subtract(run.given_devices)
    return kept


def holders_here(host: str, gpus: Sequence[str], started: Collection[int], is_held: IsHeld) -> list[Holder]:
    """Return the runs that hold devices of this host, whether a person or the scheduler started them."""
    devices = host_devices(host, gpus)
    busy = {run.pk for run in queue.waiting_for(host) if run.pk not in started and not is_held(run.pk)}
    return list(_held_here(host, devices, lambda pk: pk in started or is_held(pk), busy))


def _held_here(host: str, devices: HostDevices, is_held: IsHeld, others: Collection[int]) -> Iterator[Holder]:
    """Yield each run of this host that holds slots, whether a person or the scheduler started it, except `others`,
    which wait.

    One query reads all runs: two queries could both miss a run that changes between queued and running.
    """
    opened = Attempt.objects.filter(run=OuterRef("pk"), ended_at=None)
    runs = Run.objects.filter(state__in=(*LIVE, RunState.LOST, RunState.QUEUED)).exclude(pk__in=others)
    runs = runs.annotate(is_here=Exists(opened.filter(host=host)), is_spread=Exists(opened.exclude(launch="")))
    queued_here = Q(state=RunState.QUEUED, queued_host=host)
    for run in runs.filter(Q(is_here=True) | Q(is_spread=True) | queued_here):
        attempt = run.attempts.order_by("-number").first()
        if run.state == RunState.QUEUED and run.queued_host == host:
            # It is being started, its supervisor waits to restart it, or it counts as lost but is alive.
            holds = queue.waits_to_restart(run) or _lives(run, attempt, is_held)
        elif getattr(run, "is_here", False):
            # A training that counts as lost, or was queued again after that, holds its device while it is alive.
            holds = run.state in LIVE or _lives(run, attempt, is_held)
        else:
            # Ranks of other nodes report GPUs of this node.
            holds = run.state in LIVE and attempt is not None and bool(attempt.environment.get("gpu_uuids"))
        if holds:
            yield Holder(run, _devices_of(run, attempt, devices), attempt)


def _lives(run: Run, attempt: Attempt | None, is_held: IsHeld) -> bool:
    if is_held(run.pk):
        return True
    return attempt is not None and any_worker_lives(attempt_folder(settings.STEERSMAN_DATA, run.pk, attempt.number))


def _devices_of(run: Run, attempt: Attempt | None, devices: HostDevices) -> tuple[str, ...]:
    return devices_in_use(
        given=run.given_devices,
        environment=attempt.environment if attempt else {},
        wish=wish_of(run, attempt.ranks if attempt else None),
        devices=devices,
        is_script=run.recipe_id is None,
    )
