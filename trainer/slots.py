"""The slots of this host as the database and the locks tell of them: who holds devices, and who starts next.

Nothing is kept between two looks: a watch that was killed and started again counts the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db.models import F

from runs import starting
from runs.lifecycle import LIVE
from runs.models import Attempt, Host, Run, RunState
from runs.queueing import wish_of
from runs.slots import CPU, HostDevices, devices_in_use, plan
from trainer.folders import any_worker_lives, attempt_folder

# Tells whether a supervisor of this host holds a run, or is just starting or ending.
IsHeld = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Beginning:
    """A run to start now, on which devices."""

    run: Run
    devices: tuple[str, ...]


def host_devices(name: str, gpus: Sequence[str]) -> HostDevices:
    """Return this host's devices with the slots of the admin or, where it says nothing, of the settings."""
    host = Host.objects.filter(name=name).first()
    per_gpu = host.slots_per_device if host else None
    of_cpu = host.cpu_slots if host else None
    return HostDevices(
        tuple(gpus),
        settings.COXSWAIN_SLOTS if per_gpu is None else per_gpu,
        settings.COXSWAIN_CPU_SLOTS if of_cpu is None else of_cpu,
    )


def next_to_start(
    host: str, gpus: Sequence[str] | None, *, started: Collection[int], put_off: Collection[int], is_held: IsHeld
) -> list[Beginning]:
    """Return what this host starts now. `started` are the runs whose `train` this watch started and that still runs.

    Those that are `put_off`, because another process holds them, wait outside the line. Until it is known which `gpus`
    there are, none may take the CPU for want of a GPU.
    """
    waiting = [run for run in starting.waiting_for(host) if gpus is not None or run.device == CPU]
    if not waiting:
        return []
    devices = host_devices(host, gpus or ())
    locked = {run.pk for run in waiting if run.pk in started or is_held(run.pk)}
    free = [run for run in waiting if run.pk not in locked and run.pk not in put_off]
    busy = [*started, *locked]
    held = list(_held_here(host, devices, lambda pk: pk in busy or is_held(pk), {run.pk for run in free}))
    # One that goes on after a failure has kept its slot.
    again = [run for run in free if _keeps_devices(run, devices)]
    held += [device for run in again for device in run.given_devices]
    wishes = [wish_of(run) for run in free if run not in again]
    chosen = plan(wishes, devices, held) | {run.pk: tuple(run.given_devices) for run in again}
    return [Beginning(run, chosen[run.pk]) for run in free if run.pk in chosen]


def _keeps_devices(run: Run, devices: HostDevices) -> bool:
    return (
        starting.waits_to_restart(run) and bool(run.given_devices) and devices.slots().keys() >= set(run.given_devices)
    )


def _held_here(host: str, devices: HostDevices, is_held: IsHeld, others: Collection[int]) -> Iterator[str]:
    """Yield the device of each slot that a run of this host has taken, whoever started it; not `others`, which wait."""
    seen = set(others)
    opened = Attempt.objects.filter(host=host, ended_at=None, number=F("run__attempt")).select_related("run")
    for attempt in opened.filter(run__state__in=(*LIVE, RunState.LOST, RunState.QUEUED)):
        run = attempt.run
        # One that was given up, or was queued anew after that, holds its device as long as it lives.
        if run.pk in seen or not (run.state in LIVE or _lives(attempt, is_held)):
            continue
        seen.add(run.pk)
        yield from _devices_of(run, attempt, devices)
    for run in Run.objects.filter(state=RunState.QUEUED, queued_host=host).exclude(pk__in=seen):
        # It is being started, or its supervisor waits to start it again.
        if starting.waits_to_restart(run) or is_held(run.pk):
            yield from _devices_of(run, run.attempts.order_by("-number").first(), devices)


def _lives(attempt: Attempt, is_held: IsHeld) -> bool:
    return is_held(attempt.run_id) or any_worker_lives(
        attempt_folder(settings.COXSWAIN_DATA, attempt.run_id, attempt.number)
    )


def _devices_of(run: Run, attempt: Attempt | None, devices: HostDevices) -> tuple[str, ...]:
    return devices_in_use(
        given=run.given_devices,
        environment=attempt.environment if attempt else {},
        wish=wish_of(run, attempt.ranks if attempt else None),
        devices=devices,
        is_script=run.recipe_id is None,
    )
