"""The slots of the queue: which runs a host starts, on which devices, and why the others wait."""

from __future__ import annotations

import pytest

from steersman.agent.launch.given_devices import device_there, given_devices, given_environment
from steersman.slots import HostDevices, Wish, ahead_of, devices_in_use, plan

A, B, C = "GPU-aaaa", "GPU-bbbb", "GPU-cccc"
TWO = HostDevices((A, B))
NONE = HostDevices()


def wishes(*devices: str | tuple[str, int] | tuple[str, int, str]) -> list[Wish]:
    """Return runs 1, 2, … in line; each is a device, or device, ranks and host."""
    given = [each if isinstance(each, tuple) else (each,) for each in devices]
    return [Wish(number, *each) for number, each in enumerate(given, 1)]


def test_a_gpu_takes_one_run_and_the_first_come_first() -> None:
    assert plan(wishes("auto", "cuda", "auto"), TWO, []) == {1: (A,), 2: (B,)}
    assert plan(wishes("auto", "cuda"), TWO, [A]) == {1: (B,)}
    assert plan(wishes("auto"), TWO, [A, B]) == {}


def test_a_host_without_a_gpu_takes_one_run() -> None:
    assert plan(wishes("auto", "cpu", "auto"), NONE, []) == {1: ("cpu",)}
    assert plan(wishes("auto"), NONE, ["cpu"]) == {}


def test_the_cpu_of_a_host_with_gpus_has_slots_of_its_own() -> None:
    assert plan(wishes("cpu", "cpu", "auto"), TWO, []) == {1: ("cpu",), 3: (A,)}


def test_the_number_of_slots_is_a_setting() -> None:
    devices = HostDevices((A, B), gpu_slots=2, cpu_slots=0)
    assert plan(wishes("auto", "auto", "auto", "auto", "auto", "cpu"), devices, []) == {
        1: (A,),
        2: (B,),
        3: (A,),
        4: (B,),
    }
    assert plan(wishes("auto"), HostDevices((A,), gpu_slots=0), []) == {}
    # More slots are in use than exist now, because a person lowered the number.
    assert plan(wishes("auto"), TWO, [A, A, B]) == {}


def test_a_particular_gpu_is_waited_for_and_blocks_nobody_else() -> None:
    assert plan(wishes("cuda:1", "cuda:1", "cuda:0"), TWO, [B]) == {3: (A,)}
    assert plan(wishes("cuda:1", "auto"), TWO, [B]) == {2: (A,)}
    assert plan(wishes("cuda:1", "auto", "auto"), TWO, []) == {1: (B,), 2: (A,)}


def test_several_ranks_wait_for_a_gpu_each_and_are_not_overtaken() -> None:
    three = HostDevices((A, B, C))
    assert plan(wishes(("cuda", 2), "auto", "auto"), three, []) == {1: (A, B), 2: (C,)}
    assert plan(wishes(("cuda", 3), "auto", "cuda:2", "cpu"), three, [A]) == {4: ("cpu",)}
    # They start as soon as the last device is free, before all later runs.
    assert plan(wishes(("cuda", 3), "auto"), three, []) == {1: (A, B, C)}


def test_several_ranks_share_one_slot_of_the_cpu() -> None:
    assert plan(wishes(("auto", 4), "auto"), NONE, []) == {1: ("cpu",)}
    assert plan(wishes(("cpu", 4), "auto"), TWO, []) == {1: ("cpu",), 2: (A,)}


def test_what_a_host_lacks_is_left_to_others_or_said_by_train() -> None:
    assert plan(wishes("cuda", ("cuda", 1, "here"), "auto"), NONE, []) == {2: (), 3: ("cpu",)}
    assert plan(wishes("cuda:2", ("cuda:2", 1, "here"), ("cuda", 3), "auto"), TWO, []) == {2: (), 4: (A,)}
    assert plan(wishes("cuda:x"), TWO, []) == {}


def test_instances_of_mig_are_devices_but_not_for_several_ranks() -> None:
    split = HostDevices((A, "MIG-1", "MIG-2"))
    assert plan(wishes("auto", "auto", "cuda:2"), split, []) == {1: (A,), 2: ("MIG-1",), 3: ("MIG-2",)}
    assert plan(
        wishes(
            ("cuda", 2, "here"),
        ),
        split,
        [],
    ) == {1: ()}


def in_use(wished: str = "auto", ranks: int = 1, *, script: bool = False, **known: object) -> tuple[str, ...]:
    given = known.pop("given", ())
    assert isinstance(given, tuple)
    return devices_in_use(given=given, environment=known, wish=Wish(1, wished, ranks), devices=TWO, is_script=script)


def test_a_run_that_a_person_started_holds_what_is_known_of_it() -> None:
    assert in_use(given=(B,), gpu_uuids=[A]) == (B,)
    # torch omits the prefix of a UUID.
    assert in_use(gpu_uuids=["bbbb"]) == (B,)
    assert in_use(gpu_uuids=[A, B], ranks=2) == (A, B)
    assert in_use(gpu_uuids=["of another host"]) == ()
    assert in_use("cpu") == in_use(script=True, device="cpu") == ("cpu",)
    assert in_use("cuda:1") == (B,)
    assert in_use("cuda", 2) == (A, B)
    assert in_use() == (A,)
    assert in_use(script=True) == ()


HOSTS = {"gpu1": TWO, "gpu2": HostDevices((C,)), "small": NONE}


@pytest.mark.parametrize(
    "line, ahead",
    [
        (wishes(("auto", 1, "gpu1"), ("cuda:1", 1, "gpu1"), ("cuda:0", 1, "gpu1")), [1]),
        (wishes(("cuda:1", 1, "gpu1"), ("cuda:0", 1, "gpu1")), []),
        (wishes(("auto", 1, "gpu1"), ("auto", 1, "gpu2")), []),
        (wishes("cuda", ("auto", 1, "gpu2")), [1]),
        (wishes("cuda", ("auto", 1, "small")), []),
        (wishes("auto", ("cpu", 1, "small")), [1]),
        (wishes(("cpu", 1, "gpu1"), ("auto", 1, "gpu1")), []),
        (wishes(("cuda", 2), ("cuda", 1, "gpu2")), []),
        (wishes(("auto", 1, "away"), ("cuda:1", 1, "away")), [1]),
    ],
)
def test_it_tells_who_waits_before_whom(line: list[Wish], ahead: list[int]) -> None:
    assert ahead_of(line[-1], line, HOSTS) == ahead


def test_a_training_learns_its_gpus_by_uuid() -> None:
    environment = given_environment([A, B])
    assert environment["CUDA_VISIBLE_DEVICES"] == f"{A},{B}"
    assert given_devices(environment) == [A, B] and given_devices({}) == []
    assert "CUDA_VISIBLE_DEVICES" not in given_environment(["cpu"]) and given_environment([]) == {}


def test_the_gpu_that_was_waited_for_is_the_first_that_its_training_sees() -> None:
    assert device_there("cuda:1", given_environment([B])) == "cuda"
    assert device_there("cuda:1", {}) == device_there("cuda:1", given_environment(["cpu"])) == "cuda:1"
    assert device_there("cpu", given_environment([B])) == "cpu"
