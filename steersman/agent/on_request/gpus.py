"""The GPUs of this host, by UUID, as `CUDA_VISIBLE_DEVICES` takes them."""

from __future__ import annotations

import os

from steersman.agent.machine import nvml


def all_gpus() -> list[str]:
    """Return the GPUs that a training here would see, none without a driver."""
    try:
        nvml.open_nvml()
        return [gpu.uuid for gpu in nvml.separate(nvml.list_gpus(), visible=os.environ.get("CUDA_VISIBLE_DEVICES"))]
    except nvml.NoGpus:
        return []
