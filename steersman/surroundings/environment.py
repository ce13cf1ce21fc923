"""Interpreter, packages and devices of this process. Imports no modules that the script has not imported itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

PACKAGES = (
    "torch", "torchvision", "torchaudio", "numpy", "mlxtend", "nvidia-ml-py", "psutil", "triton", "transformers",
    "accelerate", "datasets", "lightning", "pytorch-lightning", "deepspeed", "peft", "timm", "tokenizers",
    "safetensors", "scipy", "scikit-learn", "pandas",
)  # fmt: skip


def own_environment() -> dict[str, Any]:
    """Return the JSON-ready record of this process."""
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "packages": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the installed ones of PACKAGES."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
