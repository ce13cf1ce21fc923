"""GPU and host samples, with a stub of the driver's library that is compiled here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steersman.agent.journals.rank_times import RankSamples
from steersman.agent.launch.spawn import worker_environment
from steersman.agent.machine.throttling import ThrottleWatch
from steersman.records.kinds import PointRecord

SOURCE = Path(__file__).parents[1] / "support" / "nvml_stub" / "nvml_stub.c"
ROOT = Path(__file__).parents[2]
MIB_PER_GIB = 1024.0

# Each script runs in a separate process, where the loader finds the stub; it prints one JSON value.
PRELUDE = """
import json, os, sys, time
from steersman.agent.machine.sampler import Sampler
def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain: problem={sampler.problem!r} latest={sampler.latest()}")
        time.sleep(0.005)
def has(name):
    return lambda: sampler.latest() is not None and name in sampler.latest().values
def taken(name, seconds=60):
    found = {}
    def has_come():
        sample = sampler.take()
        found.update(sample.values if sample else {})
        return name in found
    until(has_come, seconds)
    return {k: v for k, v in found.items() if k.startswith("gpu/")}
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
    """Return the output of `script`, run with the NVIDIA driver's library from `library`."""
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
    expected = {}
    for board in (0, 1):
        expected |= {
            f"gpu/{board}/utilisation": 40.0 + board,
            f"gpu/{board}/memory_utilisation": 10.0,
            f"gpu/{board}/memory_used_mib": (4 + board) * MIB_PER_GIB,
            f"gpu/{board}/memory_total_mib": 16 * MIB_PER_GIB,
            f"gpu/{board}/temperature_c": 50.0 + board,
            f"gpu/{board}/power_w": 120.5 + board,
            f"gpu/{board}/power_limit_w": 300.0,
            f"gpu/{board}/sm_clock_mhz": 1400.0 + board,
            f"gpu/{board}/memory_clock_mhz": 2600.0,
            f"gpu/{board}/fan_percent": 30.0,
            f"gpu/{board}/throttle_reasons": 1.0,
        }
    assert ask(stub, READ_ALL) == expected


def test_it_gives_what_is_slow_to_read_now_and_then_and_each_reading_once(stub: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.02).start()
first = taken("gpu/1/energy_j")
again = sampler.take().values
later = taken("gpu/1/energy_j")
print(json.dumps([first, "gpu/0/energy_j" in again, later]))
"""
    first, again, later = ask(stub, script)
    assert {
        name: value for name, value in first.items() if name.split("/")[2].startswith(("pcie", "ecc", "energy"))
    } == {
        "gpu/0/pcie_rx_mib_per_second": 2.0,
        "gpu/1/pcie_rx_mib_per_second": 2.0,
        "gpu/0/pcie_tx_mib_per_second": 1.0,
        "gpu/1/pcie_tx_mib_per_second": 1.0,
        "gpu/0/ecc_corrected": 3.0,
        "gpu/0/ecc_uncorrected": 0.0,
        "gpu/0/energy_j": 0.0,
        "gpu/1/energy_j": 0.0,
    }
    assert not again
    # Counted from the first reading, not from the start of the driver.
    assert later["gpu/0/energy_j"] == 2.5


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


def test_it_counts_the_gpus_of_the_host_whoever_sees_them(stub: Path, tmp_path: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.02)
print(json.dumps([sampler.boards, sampler.start() and until(lambda: sampler.boards is not None), sampler.boards]))
"""
    assert ask(stub, script, CUDA_VISIBLE_DEVICES="1", STUB_MIG="1") == [None, None, 2]
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"no library")
    assert ask(tmp_path, script) == [None, None, 0]


def test_it_tells_what_the_gpus_of_a_training_are(stub: Path) -> None:
    script = """
from dataclasses import astuple
sampler = Sampler(device="auto", interval_s=0.02)
before = sampler.gpus
sampler.start()
until(lambda: sampler.gpus)
print(json.dumps([before, [astuple(gpu) for gpu in sampler.gpus]]))
"""
    before, told = ask(stub, script, CUDA_VISIBLE_DEVICES="1")
    assert before == []
    assert [(name, memory, driver) for name, _, memory, driver in told] == [("Stub 1", 16384, "550.54.15")]


def test_it_reads_the_gpu_that_the_device_names_among_the_visible_ones(stub: Path) -> None:
    script = """
sampler = Sampler(device="cuda:1", interval_s=0.02).start()
until(has("gpu/0/utilisation"))
print(json.dumps(gpu_values()))
"""
    assert boards(ask(stub, script, CUDA_VISIBLE_DEVICES="1,0")) == {"0"}


def test_it_reads_memory_of_a_mig_instance_and_the_rest_of_its_board(stub: Path) -> None:
    values = ask(stub, READ_ALL, CUDA_VISIBLE_DEVICES="MIG-dddd", STUB_MIG="1", WAIT="gpu/1.1/power_w")
    assert boards(values) == {"1.1"}
    # An instance has no utilisation, and its board's would include all instances.
    assert not [name for name in values if name.endswith("utilisation")]
    assert values["gpu/1.1/memory_used_mib"] == 2 * MIB_PER_GIB
    assert values["gpu/1.1/memory_total_mib"] == 16 * MIB_PER_GIB
    assert values["gpu/1.1/power_w"] == 121.5
    assert values["gpu/1.1/sm_clock_mhz"] == 1401.0


def test_it_reads_all_mig_instances_of_a_training(stub: Path) -> None:
    visible = "MIG-cccccccc-2222-2222-2222-222222222222,MIG-dddddddd-3333-3333-3333-333333333333"
    values = ask(stub, READ_ALL, CUDA_VISIBLE_DEVICES=visible, STUB_MIG="1", WAIT="gpu/1.1/power_w")
    assert boards(values) == {"1.0", "1.1"}


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


def test_it_reads_an_older_driver_by_its_own_names(build_stub: Callable[..., Path]) -> None:
    values = ask(build_stub("-DOLD_DRIVER"), READ_ALL)
    assert values["gpu/0/throttle_reasons"] == 1.0


# 4 means no permission (the field is not read again), 999 an unknown error (it is read again); neither hides the rest.
@pytest.mark.parametrize("code", ["4", "999"])
def test_it_reads_everything_else_where_one_field_fails(stub: Path, code: str) -> None:
    values = ask(stub, READ_ALL, STUB_FAN=code)
    assert boards(values) == {"0", "1"}
    assert not [name for name in values if name.endswith("fan_percent")]
    assert values["gpu/1/throttle_reasons"] == 1.0


def test_it_finds_a_gpu_again_that_came_back(stub: Path, tmp_path: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.01).start()
until(has("gpu/1/utilisation"))
open(os.environ["STUB_LOST"], "w").close()
until(lambda: not has("gpu/1/utilisation")())
os.unlink(os.environ["STUB_LOST"])
until(has("gpu/1/utilisation"))
print(json.dumps([gpu_values(), sampler.problem]))
"""
    values, problem = ask(stub, script, STUB_LOST=str(tmp_path / "lost"))
    assert boards(values) == {"0", "1"}
    assert problem == ""


def test_it_says_in_words_why_a_gpu_is_held_back(stub: Path, tmp_path: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.02).start()
until(has("gpu/0/throttle_reasons"))
quiet = sampler.take_notes()
open(os.environ["STUB_THROTTLE"], "w").write("68")
until(lambda: gpu_values()["gpu/0/throttle_reasons"] == 68)
notes = []
until(lambda: notes.extend(sampler.take_notes()) or notes)
print(json.dumps([quiet, [[note.text, note.level] for note in notes]]))
"""
    power_and_heat = (
        "GPU 0 is throttled: it draws all the power that its limit allows, and its hardware reports that it is too hot."
    )
    assert ask(stub, script, STUB_THROTTLE=str(tmp_path / "mask")) == [[], [[power_and_heat, "warning"]]]


def test_it_speaks_of_a_gpu_at_a_limit_once_a_minute_and_of_its_end() -> None:
    watch = ThrottleWatch()
    assert [note.level for note in watch.changes({"0": 0x4, "1": 0x1}, 100.0)] == ["info"]
    assert watch.changes({"0": 0x1}, 101.0) == []
    assert watch.changes({"0": 0x4}, 102.0) == []
    assert watch.changes({"0": 0x4}, 200.0) == []
    assert [note.text for note in watch.changes({"0": 0x1}, 201.0)] == ["GPU 0 is no longer throttled."]
    (unknown,) = watch.changes({"1": 0x400}, 202.0)
    assert "0x400" in unknown.text


def documented_series() -> set[str]:
    text = (ROOT / "docs" / "protocol.md").read_text()
    table = text.split("| series of the machine |", 1)[1].split("\n\n", 1)[0]
    return {name for line in table.splitlines() for name in re.findall(r"`((?:gpu|host)/[^`]+)`", line)}


def test_the_protocol_names_every_series_of_the_machine_and_no_other(stub: Path, tmp_path: Path) -> None:
    script = """
import pathlib
sampler = Sampler(data=pathlib.Path("."), device="auto", interval_s=0.02).start()
sampler.follow({0: os.getpid(), 1: os.getppid()})
until(has("host/rank/0/cpu"))
until(has("host/rank/1/cpu"))
taken("gpu/0/energy_j")
print(json.dumps(sorted({*sampler.latest().values, *taken("gpu/0/energy_j")})))
"""
    samples = RankSamples()
    samples.note([{rank: PointRecord(step=1, time=1.0, values={"speed/step_ms": 40.0}) for rank in range(2)}])
    numbered = [*ask(stub, script), *samples.take()]
    told = {re.sub(r"(?<=rank/)[0-9]+/", "<k>/", re.sub(r"^gpu/[0-9.]+/", "gpu/<i>/", name)) for name in numbered}
    assert told == documented_series()


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
    # The process ends although a thread is still inside the driver; otherwise ask() would time out.
    assert ask(stub, script, STUB_HANG=str(tmp_path / "hang")) == ""


def test_it_reads_a_slow_driver_at_its_own_pace(stub: Path) -> None:
    script = """
sampler = Sampler(device="auto", interval_s=0.1).start()
until(lambda: has("gpu/1/power_w")() and not sampler.problem)
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


def test_a_host_that_cannot_be_read_for_a_while_is_told_and_read_again(stub: Path) -> None:
    script = """
from steersman.agent.machine.host import HostReader
read, failing = HostReader.read, [True]
def read_or_fail(self):
    if failing:
        raise OSError("no /proc here")
    return read(self)
HostReader.read = read_or_fail
sampler = Sampler(interval_s=0.02).start()
until(has("gpu/0/utilisation"))
told = sampler.problem
failing.clear()
until(has("host/cpu"))
print(json.dumps([told, sampler.problem]))
"""
    assert ask(stub, script) == ["CPU, memory and disk of the host are not sampled (OSError: no /proc here).", ""]


@pytest.mark.parametrize("given", ["", "error::DeprecationWarning", "error"])
def test_the_notice_of_pynvml_is_in_no_console_of_a_training_and_other_warnings_are(tmp_path, given):
    environment = worker_environment(tmp_path, tmp_path, ROOT, {"PYTHONWARNINGS": given})
    code = """
    import warnings
    warnings.warn("The pynvml package is deprecated. Please install nvidia-ml-py instead.", FutureWarning)
    warnings.warn("Something else is deprecated", FutureWarning)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONWARNINGS": environment["PYTHONWARNINGS"]}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "pynvml" not in result.stderr and "Something else" in result.stderr
    assert environment["PYTHONWARNINGS"].startswith(given)
