"""What a training ran on: versions, devices, threads, source revision. Recorded once an attempt."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "numpy", "mlxtend", "nvidia-ml-py", "psutil", "triton")
# A working directory on a network disk must not hold up a training.
GIT_TIMEOUT_S = 5.0


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return the JSON-ready record of this process. `gpu_uuids` name the GPU that trains, as NVML knows it."""
    devices = [_cuda_device(index) for index in range(torch.cuda.device_count())]
    used = devices[device.index or 0]["uuid"] if device.type == "cuda" else ""
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "device": str(device),
        "gpus": [each["name"] for each in devices],
        "cuda_devices": devices,
        "gpu_uuids": [used] if used else [],
        "packages": _package_versions(),
        "git": git_revision(Path.cwd()),
    }


def git_revision(folder: Path) -> dict[str, Any] | None:
    """Return commit, branch and whether files differ from it; None outside a git working tree or without git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {
        "commit": commit,
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
        "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
    }


def _cuda_device(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "index": index,
        "name": properties.name,
        # Not every build of torch tells it.
        "uuid": str(getattr(properties, "uuid", "")),
        "memory_mib": properties.total_memory // 2**20,
        "capability": f"{properties.major}.{properties.minor}",
    }


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(folder: Path, *arguments: str) -> str:
    # Optional locks off: asking for the status must not write into a repository that others work in.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
