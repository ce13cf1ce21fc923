"""GPU and host samples, against a stand-in for the driver's library that is compiled here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent / "nvml_stub" / "nvml_stub.c"
ROOT = Path(__file__).parent.parent
MIB_PER_GIB = 1024.0

# Each script runs in a process of its own, where the loader finds the stub; it prints one JSON value.
PRELUDE = """
import json, os, sys, time
from trainer.gpu import Sampler
def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain: problem={sampler.problem!r} latest={sampler.latest()}")
        time.sleep(0.005)
def has(name):
    return lambda: sampler.latest() is not None and name in sampler.latest().values
def gpu_values():
    return {k: v for k, v in sampler.latest().values.items() if k.startswith("gpu/")}
"""


@pytest.fixture(scope="session")
def build_stub(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this host")

    def build(*flags: str) -> Path:
        folder = tmp_path_factory.mktemp("nvml")
        library = folder / "libnvidia-ml.so.1"
        subprocess.run([compiler, "-shared", "-fPIC", "-Wall", *flags, "-o", library, SOURCE], check=True)
        return folder

    return build


@pytest.fixture(scope="session")
def stub(build_stub: Callable[..., Path]) -> Path:
    return build_stub()


def ask(library: Path, script: str, **environment: str) -> Any:
    """Return what `script` prints, run where `library` holds the NVIDIA driver's library."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "STUB_"))}
    answer = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        cwd=ROOT,
        env=clean | {"LD_LIBRARY_PATH": str(library)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr
    assert not answer.stderr
    return json.loads(answer.stdout)


READ_ALL = """
sampler = Sampler(device="auto", interval_s=0.02).start()
until(has(os.environ.get("WAIT", "gpu/0/utilisation")))
print(json.dumps(gpu_values()))
"""


def boards(values: dict[str, float]) -> set[str]:
    return {name.split("/")[1] for name in values}


def test_it_reads_the_fields_of_every_visible_gpu_in_the_named_units(stub: Path) -> None:
    assert ask(stub, READ_ALL) == {
        "gpu/0/utilisation": 40.0,
        "gpu/0/memory_used_mib": 4 * MIB_PER_GIB,
        "gpu/0/memory_total_mib": 16 * MIB_PER_GIB,
        "gpu/0/temperature_c": 50.0,
        "gpu/0/power_w": 120.5,
        "gpu/1/utilisation": 41.0,
        "gpu/1/memory_used_mib": 5 * MIB_PER_GIB,
        "gpu/1/memory_total_mib": 16 * MIB_PER_GIB,
        "gpu/1/temperature_c": 51.0,
        "gpu/1/power_w": 121.5,
    }


@pytest.mark.parametrize(
    ("visible", "wait", "seen"),
    [
        ("1", "gpu/1/utilisation", {"1"}),
        ("GPU-bbbb", "gpu/1/utilisation", {"1"}),
        ("1,0", "gpu/0/utilisation", {"0", "1"}),
        ("0,7,1", "gpu/0/utilisation", {"0"}),
    ],
)
def test_it_reads_only_what_cuda_shows(stub: Path, visible: str, wait: str, seen: set[str]) -> None:
    assert boards(ask(stub, READ_ALL, CUDA_VISIBLE_DEVICES=visible, WAIT=wait)) == seen


def test_it_reads_the_gpu_that_the_device_names_among_the_visible_ones(stub: Path) -> None:
    script = """
sampler = Sampler(device="cuda:1", interval_s=0.02).start()
until(has("gpu/0/utilisation"))
print(json.dumps(gpu_values()))
"""
    assert boards(ask(stub, script, CUDA_VISIBLE_DEVICES="1,0")) == {"0"}


def test_it_reads_memory_of_a_mig_instance_and_the_rest_of_its_board(stub: Path) -> None:
    values = ask(stub, READ_ALL, CUDA_VISIBLE_DEVICES="MIG-dddd", STUB_MIG="1", WAIT="gpu/1.1/power_w")
    assert values == {
        "gpu/1.1/memory_used_mib": 2 * MIB_PER_GIB,
        "gpu/1.1/memory_total_mib": 16 * MIB_PER_GIB,
        "gpu/1.1/temperature_c": 51.0,
        "gpu/1.1/power_w": 121.5,
    }


def test_it_follows_the_uuid_that_torch_told_whatever_the_order(stub: Path) -> None:
    script = """
sampler = Sampler(device="cuda:0", interval_s=0.02).start()
until(has("gpu/0/utilisation"))
sampler.watch(["bbbbbbbb-1111-1111-1111-111111111111"])
until(has("gpu/1/utilisation"))
print(json.dumps(gpu_values()))
"""
    assert boards(ask(stub, script)) == {"1"}


def test_it_goes_on_without_a_field_that_the_driver_lacks(build_stub: Callable[..., Path]) -> None:
    values = ask(build_stub("-DWITHOUT_POWER"), READ_ALL)
    assert values["gpu/0/temperature_c"] == 50.0
    assert not [name for name in values if name.endswith("power_w")]


def test_it_says_why_where_the_driver_does_not_start_and_reads_the_host(stub: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.02).start()
until(lambda: sampler.problem and has("host/cpu")())
print(json.dumps([sampler.problem, gpu_values()]))
"""
    # 18 is NVML_ERROR_LIB_RM_VERSION_MISMATCH: the driver was updated without a restart.
    problem, values = ask(stub, script, STUB_INIT="18")
    assert "GPUs are not sampled" in problem
    assert "mismatch" in problem
    assert values == {}


def test_it_says_so_where_there_is_no_driver(tmp_path: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.02).start()
until(lambda: sampler.problem and has("host/cpu")())
print(json.dumps([sampler.problem, sorted(sampler.latest().values)]))
"""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this host has an NVIDIA driver")
    problem, names = ask(tmp_path, script)
    assert "libnvidia-ml.so.1" in problem
    assert "host/memory_used_mib" in names


def test_it_answers_at_once_while_the_driver_hangs_and_shows_no_stale_values(stub: Path, tmp_path: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.02).start()
until(has("gpu/0/utilisation"))
open(os.environ["STUB_HANG"], "w").close()
until(lambda: "does not answer" in sampler.problem and not gpu_values())
first = sampler.latest().time
until(lambda: sampler.latest().time > first)
os.unlink(os.environ["STUB_HANG"])
until(has("gpu/0/utilisation"))
problem = sampler.problem
open(os.environ["STUB_HANG"], "w").close()
until(lambda: sampler.problem)
print(json.dumps(problem))
"""
    # The process ends although a thread is still inside the driver: ask() would time out otherwise.
    assert ask(stub, script, STUB_HANG=str(tmp_path / "hang")) == ""


def test_it_reads_a_slow_driver_at_its_own_pace(stub: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.05).start()
until(has("gpu/1/power_w"))
print(json.dumps([gpu_values(), sampler.problem]))
"""
    values, problem = ask(stub, script, STUB_SLOW_MS="10")
    assert boards(values) == {"0", "1"}
    assert problem == ""


def test_it_tells_of_a_gpu_that_fell_off_the_bus_and_reads_the_others(stub: Path, tmp_path: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.02).start()
until(has("gpu/1/utilisation"))
open(os.environ["STUB_LOST"], "w").close()
until(lambda: "GPU 1 is no longer sampled" in sampler.problem and not has("gpu/1/utilisation")())
print(json.dumps(gpu_values()))
"""
    assert boards(ask(stub, script, STUB_LOST=str(tmp_path / "lost"))) == {"0"}


def test_it_reads_no_gpu_for_a_training_on_the_cpu(stub: Path) -> None:
    script = """
sampler = Sampler(device="cpu", interval_s=0.02).start()
until(has("host/cpu"))
print(json.dumps([gpu_values(), sampler.problem]))
"""
    assert ask(stub, script) == [{}, ""]


def test_it_reads_the_workers_process_tree_and_the_data_folder(stub: Path, tmp_path: Path) -> None:
    script = """
import pathlib, subprocess
child = "import time; block = bytearray(64 << 20); open(sys.argv[1], 'w').close(); time.sleep(60)"
parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sys; ' + sys.argv[1], sys.argv[2]])"
ready = pathlib.Path(os.environ["READY"])
worker = subprocess.Popen([sys.executable, "-c", parent, child, ready], start_new_session=True)
sampler = Sampler(worker.pid, data=ready.parent, device="cpu", interval_s=0.02).start()
try:
    until(ready.exists)
    until(lambda: has("host/worker_cpu")() and sampler.latest().values["host/worker_rss_mib"] > 64)
    values = sampler.latest().values
finally:
    os.killpg(worker.pid, 9)
    worker.wait()
until(lambda: not has("host/worker_rss_mib")())
print(json.dumps(values))
"""
    values = ask(stub, script, READY=str(tmp_path / "ready"))
    assert values["host/worker_cpu"] >= 0
    assert values["host/disk_free_gib"] > 0
    assert values["host/memory_used_mib"] < values["host/memory_total_mib"]
