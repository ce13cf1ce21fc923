"""The devices that a host offers for runs, read through pynvml's own loading path from a small stub library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steersman.agent.machine.devices import DeviceReader
from tests.support.stack import ROOT

SCRIPT = """
import json, time
from steersman.agent.machine import devices
devices.READ_INTERVAL_S = 0.02
reader = devices.DeviceReader().start()
end = time.monotonic() + 20
while not reader._read_at and time.monotonic() < end:
    time.sleep(0.005)
reader.stop()
print(json.dumps(reader.latest()))
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler on this host")
    folder = tmp_path_factory.mktemp("nvml")
    source = ROOT / "tests" / "support" / "nvml_stub" / "nvml_stub.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


def devices_with(library: Path, **variables: str) -> list[dict[str, Any]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "STUB_"))}
    environment = clean | {"LD_LIBRARY_PATH": str(library)} | variables
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def test_it_lists_cpu_and_gpus_with_their_use(stub: Path) -> None:
    cpu, *gpus = devices_with(stub)
    assert cpu["device"] == "cpu" and 0 < cpu["memory_used_mib"] < cpu["memory_total_mib"]
    assert [(gpu["device"], gpu["title"]) for gpu in gpus] == [("cuda:0", "Stub 0"), ("cuda:1", "Stub 1")]
    assert all(0 < gpu["memory_used_mib"] < gpu["memory_total_mib"] for gpu in gpus)
    assert all(isinstance(gpu["utilisation"], int) for gpu in gpus)


def test_cuda_numbers_are_those_that_a_training_here_would_see(stub: Path) -> None:
    gpus = devices_with(stub, CUDA_VISIBLE_DEVICES="1")[1:]
    assert [(gpu["device"], gpu["title"]) for gpu in gpus] == [("cuda:0", "Stub 1")]


def test_a_host_without_a_driver_offers_its_cpu(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    assert [device["device"] for device in devices_with(tmp_path)] == ["cpu"]


def test_a_gpu_whose_driver_hangs_is_listed_without_its_use() -> None:
    devices = DeviceReader()
    devices._gpus = [
        {"device": "cuda:0", "title": "H100", "uuid": "GPU-a"}
        | {"utilisation": 5, "memory_used_mib": 1, "memory_total_mib": 2}
    ]
    devices._read_at = float("-inf")
    assert devices.latest()[1:] == [
        {"device": "cuda:0", "title": "H100", "uuid": "GPU-a"}
        | {"utilisation": None, "memory_used_mib": None, "memory_total_mib": None}
    ]
    assert devices.gpus() == ["GPU-a"]


def test_each_instance_of_a_gpu_that_mig_splits_is_a_device_of_its_own(stub: Path) -> None:
    gpus = devices_with(stub, STUB_MIG="1")[1:]
    assert [gpu["uuid"][:8] for gpu in gpus] == ["GPU-aaaa", "MIG-cccc", "MIG-dddd"]
    only = devices_with(stub, STUB_MIG="1", CUDA_VISIBLE_DEVICES="MIG-dddddddd-3333-3333-3333-333333333333")[1:]
    assert [gpu["uuid"][:8] for gpu in only] == ["MIG-dddd"]


def test_before_the_driver_has_answered_no_gpu_is_known_to_be_missing() -> None:
    assert DeviceReader().gpus() is None
