"""The environment of a training as torch reports it: version, devices, threads. `attach()` records the rest."""

from __future__ import annotations

from typing import Any

import torch


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return a JSON-ready description of the PyTorch environment. `gpu_uuids` has the NVML UUID of the GPU in use."""
    devices = [_cuda_device(index) for index in range(torch.cuda.device_count())]
    used = devices[device.index or 0]["uuid"] if device.type == "cuda" else ""
    return {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "device": str(device),
        "gpus": [each["name"] for each in devices],
        "cuda_devices": devices,
        "gpu_uuids": [used] if used else [],
    }


def _cuda_device(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {
        "index": index,
        "name": properties.name,
        # Some builds of torch do not have it.
        "uuid": str(getattr(properties, "uuid", "")),
        "memory_mib": properties.total_memory // 2**20,
        "capability": f"{properties.major}.{properties.minor}",
    }
