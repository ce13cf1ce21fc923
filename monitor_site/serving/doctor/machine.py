"""The doctor's checks of this host: Python, torch, GPUs, disk and clock. Does not import Django."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitor_site.serving.doctor.report import Finding
from steersman.files.data_folder import UnfitFolder, refuse_unfit
from steersman.former_name import former_name_notice

ROOT = Path(__file__).resolve().parents[3]
OLDEST_PYTHON = (3, 11)
OLDEST_TORCH = (2, 7)
GIB = 2**30
LOW_DISK_GIB, SCARCE_DISK_GIB = 5.0, 1.0
# A first import from a network disk without a warm cache is slow.
TORCH_TIMEOUT_S = 120.0
NVML_TIMEOUT_S = 15.0
CLOCK_UNSYNCHRONISED = 0x40

TORCH_PROBE = """
import json, warnings
warnings.simplefilter("ignore")
import torch
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
devices = [torch.cuda.get_device_properties(index) for index in range(count)]
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda or torch.version.hip,
    "devices": [f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in devices],
}))
"""
NVML_PROBE = """
import json
from steersman.agent.machine import nvml
try:
    nvml.open_nvml()
    gpus = nvml.list_gpus()
    names = [f"GPU {gpu.name} {nvml.pynvml.nvmlDeviceGetName(gpu.board)}" for gpu in gpus]
    print(json.dumps({"problem": "", "names": names, "driver": nvml.pynvml.nvmlSystemGetDriverVersion()}))
except nvml.NoGpus as error:
    print(json.dumps({"problem": str(error), "names": [], "driver": ""}))
"""


class ProbeFailed(RuntimeError):
    """A probe ended without an answer. The text is its last line."""


class ProbeTimedOut(ProbeFailed):
    """A probe did not end in time."""


def probe(script: str, timeout_s: float) -> dict[str, Any]:
    """Return the JSON that `script` prints in a separate Python process. Raises `ProbeFailed`."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise ProbeTimedOut(f"no answer within {timeout_s:g} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ProbeFailed(said[:300])
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def python() -> Finding:
    """Check that this Python is new enough."""
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", "problem", version, "Use Python 3.11 or newer: make setup PYTHON=python3.12")
    return Finding("Python", "ok", f"{version} at {sys.executable}")


def former_name(environment: Mapping[str, str], base: Path) -> list[Finding]:
    """Return a warning if variables or a data folder still have the project's former name, otherwise nothing."""
    notice = former_name_notice(environment, base)
    return [Finding("Name", "warning", notice)] if notice else []


def torch_and_gpus(torch_probe: str = TORCH_PROBE, nvml_probe: str = NVML_PROBE) -> list[Finding]:
    """Check torch, CUDA and NVML, each in a separate process, because a driver may hang."""
    nvml, names = _nvml(nvml_probe)
    try:
        found = probe(torch_probe, TORCH_TIMEOUT_S)
    except ProbeFailed as error:
        remedy = "Install torch: pip install -r requirements.txt (not needed on a host that only serves the portal)."
        if isinstance(error, ProbeTimedOut):
            remedy = "Check whether nvidia-smi answers, and whether the disk with the packages is slow; then try again."
        return [Finding("torch", "problem", f"does not load: {error}", remedy), nvml]
    return [_torch(found), _cuda(found, names), nvml]


def _torch(found: dict[str, Any]) -> Finding:
    version = str(found["version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCH:
        return Finding("torch", "problem", version, "Install torch 2.7 or newer: pip install -r requirements.txt")
    return Finding("torch", "ok", f"{version}, {'CUDA ' + found['cuda'] if found['cuda'] else 'built for the CPU'}")


def _cuda(found: dict[str, Any], names: list[str]) -> Finding:
    devices = found["devices"]
    if devices:
        listed = ", ".join(f"cuda:{index} {name}" for index, name in enumerate(devices))
        return Finding("CUDA", "ok", f"{len(devices)} GPU{'' if len(devices) == 1 else 's'}: {listed}")
    if not names:
        return Finding("CUDA", "ok", "no GPU on this host: trainings use the CPU")
    if not found["cuda"]:
        return Finding("CUDA", "problem", "torch is built for the CPU on a host with GPUs", "Install a CUDA build.")
    text = "torch finds no GPU, although the driver lists some"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        remedy = f"CUDA_VISIBLE_DEVICES is {hidden!r}: unset it, or name GPUs that exist."
    else:
        remedy = f"The driver may be too old for CUDA {found['cuda']}: update it, or install a torch for an older CUDA."
    return Finding("CUDA", "problem", text, remedy)


def _nvml(script: str) -> tuple[Finding, list[str]]:
    try:
        found = probe(script, NVML_TIMEOUT_S)
    except ProbeFailed as error:
        remedy = "Check whether nvidia-smi answers; if not, restart the driver or the host."
        return Finding("NVML", "problem", f"the NVIDIA driver cannot be queried: {error}", remedy), []
    names: list[str] = found["names"]
    if found["problem"]:
        if Path("/dev/nvidiactl").exists():
            remedy = "This host has an NVIDIA device: install the driver's libraries, or restart after its update."
            return Finding("NVML", "problem", found["problem"], remedy), []
        return Finding("NVML", "ok", f"GPUs are not measured: {found['problem']}"), []
    if not names:
        return Finding("NVML", "warning", "the driver lists no GPU", "Check the output of nvidia-smi."), []
    return Finding("NVML", "ok", f"driver {found['driver']}: {', '.join(names)}"), names


def disk(data: Path, *, shared: bool = False) -> list[Finding]:
    """Check that the data folder is writable, private unless it is `shared`, and has free space."""
    try:
        with tempfile.NamedTemporaryFile(dir=data, prefix=".doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "Make this user the owner of the folder, or set STEERSMAN_DATA to one that this user can write to."
        return [Finding("disk", "problem", f"{data} cannot be written: {error.strerror}", remedy)]
    free_gib = shutil.disk_usage(data).free / GIB
    text = f"{free_gib:.1f} GiB free on the disk of {data}"
    remedy = "Free disk space: on a full disk trainings continue, but their points and checkpoints are lost."
    if free_gib < SCARCE_DISK_GIB:
        found = [Finding("disk", "problem", text, remedy)]
    elif free_gib < LOW_DISK_GIB:
        found = [Finding("disk", "warning", text, remedy)]
    else:
        found = [Finding("disk", "ok", text)]
    try:
        refuse_unfit(data, shared=shared)
    except UnfitFolder as error:
        text, _, remedy = str(error).partition(": ")
        found.append(Finding("disk", "problem", text, remedy[:1].upper() + remedy[1:]))
    return found


def clock_is_kept() -> bool | None:
    """Return whether the kernel reports a synchronised clock (NTP, PTP); None if it reports nothing."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    # struct timex: modes (0 only reads) and four longs come before the status.
    timex = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        return None
    status = int.from_bytes(timex.raw[40:44], sys.byteorder)
    return not status & CLOCK_UNSYNCHRONISED
