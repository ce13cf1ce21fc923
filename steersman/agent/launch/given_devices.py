"""The devices that a watch gives to a training: how they are passed, and what `cuda:1` means there. No Django."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steersman.slots import CPU

DEVICES_VARIABLE = "STEERSMAN_GIVEN_DEVICES"
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"


def given_environment(devices: Sequence[str]) -> dict[str, str]:
    """Return the variables that give `devices` (GPUs by UUID, as NVML's index is not CUDA's) to a training."""
    if not devices:
        return {}
    gpus = [device for device in devices if device != CPU]
    # For the CPU, the environment of the watch is unchanged.
    visible = {VISIBLE_VARIABLE: ",".join(gpus)} if gpus else {}
    return {DEVICES_VARIABLE: ",".join(devices)} | visible


def given_devices(environment: Mapping[str, str]) -> list[str]:
    """Return the devices that a watch gave to this process, none if a person started it."""
    return [device for device in environment.get(DEVICES_VARIABLE, "").split(",") if device]


def device_there(device: str, environment: Mapping[str, str]) -> str:
    """Return the device for torch: if a watch gave exactly one GPU, `cuda:1` is the only visible GPU."""
    gpus = [each for each in given_devices(environment) if each != CPU]
    return "cuda" if gpus and device.startswith("cuda:") else device
