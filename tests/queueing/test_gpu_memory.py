"""Room on GPUs: which memory counts as free, when a run that needs more waits, and the message about it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from runs.models import Host, Role, RunState
from runs.recording.lifecycle import Holder as LeaseHolder
from runs.recording.lifecycle import open_attempt
from steersman.agent.folders import WorkerProcess, attempt_folder, below, host_name
from steersman.gpu_memory import GpuRoom, Obstacle, mib_of_text, room
from steersman.slots import HostDevices, Wish, plan
from tests.queueing.support import client_of, make_project, queued
from trainer.scheduler import host_slots
from trainer.scheduler.gpu_use import GpuUse, own_use

A, B = "GPU-aaaa", "GPU-bbbb"
GIB = 1024
TOTAL = 80 * GIB


def seen(used: int, own: int | None = 0, needs: tuple[int | None, ...] = (), slots: int = 1) -> GpuRoom:
    """Return the room of a card of 80 GiB, of which others may use a tenth."""
    return room(total=TOTAL, used=used, own_used=own, needs=needs, slots=slots, share=0.1)


def test_a_card_on_which_another_program_takes_more_than_its_share_is_not_free() -> None:
    assert seen(7 * GIB).obstacle(None) is None
    assert seen(61 * GIB).obstacle(None) is Obstacle.OTHERS
    # On a small card, a desktop and a monitor may use a GiB.
    small = room(total=6 * GIB, used=900, own_used=0, needs=(), slots=1, share=0.1)
    assert small.obstacle(None) is None


def test_a_training_of_ours_holds_what_it_asked_for_though_it_has_just_begun() -> None:
    card = seen(2 * GIB, own=2 * GIB, needs=(50 * GIB,), slots=2)
    assert card.free == 30 * GIB
    assert card.obstacle(20 * GIB) is None
    assert card.obstacle(40 * GIB) is Obstacle.TAKEN
    assert card.obstacle(90 * GIB) is Obstacle.TOO_SMALL
    # Two runs that stated no need share a card of two slots.
    assert seen(2 * GIB, own=2 * GIB, needs=(None,), slots=2).obstacle(None) is None


def test_of_a_driver_that_tells_no_processes_a_card_of_ours_is_ours_and_another_is_not() -> None:
    assert seen(60 * GIB, own=None, needs=(None,)).others == 0
    assert seen(60 * GIB, own=None).others == 60 * GIB
    assert own_use({1: 10, 2: 20, 3: None}, {1, 2}) == 30
    assert own_use({1: 10, 2: None}, {1, 2}) is None
    assert own_use({}, {1}) is None


def test_what_a_training_started_is_its_own_and_what_others_did_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert below([child.pid, 1], {os.getpid()}) == {child.pid}
        assert below([child.pid, 1], {child.pid}) == {child.pid}
        assert below([os.getpid()], {child.pid}) == set()
        child.communicate(b"\n")
    # A process that has ended no longer has a parent.
    assert below([child.pid], {os.getpid()}) == set()


def test_the_plan_leaves_cards_of_others_alone_and_keeps_the_one_that_it_waits_for() -> None:
    full, free = seen(61 * GIB), seen(0)
    devices = HostDevices((A, B), rooms={A: full, B: free})
    assert plan([Wish(1), Wish(2)], devices, []) == {1: (B,)}
    assert plan([Wish(1, "cuda:0")], devices, []) == {}
    both = HostDevices((A, B), rooms={A: seen(30 * GIB, own=0), B: free})
    assert plan([Wish(1, gpu_memory_mib=100 * GIB), Wish(2, "cuda:1")], both, []) == {2: (B,)}, "too large for ever"
    # The memory of a slot that was just freed is known after the next reading.
    assert plan([Wish(1)], HostDevices((A,), unread=frozenset({A})), []) == {}
    two = HostDevices((A,), gpu_slots=2, rooms={A: seen(0, slots=2)})
    wishes = [Wish(1, gpu_memory_mib=50 * GIB), Wish(2, gpu_memory_mib=50 * GIB)]
    assert plan(wishes, two, []) == {1: (A,)}


@pytest.mark.parametrize(("text", "mib"), [("10GiB", 10240), ("1.5 G", 1536), ("800MiB", 800), ("24gb", 24576)])
def test_sizes_are_read_as_they_are_typed(text: str, mib: int) -> None:
    assert mib_of_text(text) == mib


@pytest.mark.parametrize("text", ["", "10", "0GiB", "-1GiB", "much", "99999999999GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="not a memory size"):
        mib_of_text(text)


class Reader:
    """One GPU, as its driver reports it: MiB in use, and by which processes."""

    def __init__(self, used: int, processes: dict[int, int | None]) -> None:
        self.used, self.of, self.read_at = used, processes, time.monotonic()

    def processes(self) -> tuple[float, dict[str, Any]]:
        return self.read_at, {A: self.of}

    def latest_gpus(self) -> list[dict[str, Any]]:
        return [
            {"device": "cuda:0", "title": "Stub", "uuid": A, "utilisation": 0.0,
             "memory_used_mib": self.used, "memory_total_mib": TOTAL}
        ]  # fmt: skip

    latest = latest_gpus


@pytest.mark.django_db
def test_a_queued_run_waits_for_another_program_and_says_so(tmp_path: Path) -> None:
    lab = make_project("lab", Role.OPERATOR)
    here = host_name()
    run = queued(lab, here, device="cuda")
    reader = Reader(61 * GIB, {4242: 61 * GIB})
    use = GpuUse(reader, tmp_path)  # type: ignore[arg-type]

    def chosen() -> list[int]:
        found = host_slots.next_to_start(
            here, [A], started=[], put_off=[], is_held=lambda pk: False, memory=use
        )  # fmt: skip
        return [each.run.pk for each in found]

    assert chosen() == []
    Host.objects.create(name=here, heartbeat_at=timezone.now(), devices=use.published())
    place = client_of("operator-lab").get(f"/api/runs/{run.pk}/place/").json()["place"]
    assert place["why"] == "cuda:0 is used by another program: 61 of 80 GiB"
    assert place["why"] in client_of("operator-lab").get("/").content.decode()
    reader.used, reader.of, reader.read_at = 0, {}, time.monotonic()
    assert chosen() == [run.pk]


@pytest.mark.django_db
def test_the_memory_of_our_own_processes_is_no_other_programs(tmp_path: Path) -> None:
    lab = make_project("lab")
    run = queued(lab, host_name(), device="cuda")
    lease = open_attempt(run.pk, LeaseHolder(host_name(), "boot", 1), 0, command_line=[])
    folder = attempt_folder(tmp_path, run.pk, lease.number)
    folder.mkdir(parents=True)
    WorkerProcess.of(os.getpid()).record(folder)
    run.refresh_from_db()
    assert run.state == RunState.RUNNING
    attempt = run.attempts.get()
    holders = [host_slots.Holder(run, (A,), attempt)]
    use = GpuUse(Reader(61 * GIB, {os.getpid(): 60 * GIB, 1: GIB}), tmp_path)  # type: ignore[arg-type]
    assert use.seen(HostDevices((A,)), holders).rooms[A].others == GIB
    # Once the run has left, nothing is known until the next reading.
    assert use.seen(HostDevices((A,)), []).unread == frozenset({A})
