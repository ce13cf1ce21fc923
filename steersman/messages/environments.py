"""Merges the environments of an attempt's ranks, for both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_environments(environment: Mapping[str, Any], told: Mapping[str, Any], rank: int = 0) -> dict[str, Any]:
    """Return the environment of an attempt with the report of another rank: all GPUs of all ranks.

    A script may report any value under any name; only texts are used as UUIDs of GPUs.
    """
    known = _texts(environment.get("gpu_uuids"))
    uuids = [*known, *(uuid for uuid in _texts(told.get("gpu_uuids")) if uuid not in known)]
    devices = environment.get("rank_devices")
    devices = dict(devices) if isinstance(devices, dict) else {}
    if rank:
        devices[str(rank)] = str(told.get("device", ""))
        told = {}
    return {**environment, **told, "gpu_uuids": uuids} | ({"rank_devices": devices} if devices else {})


def _texts(given: Any) -> list[str]:
    return [each for each in given if isinstance(each, str)] if isinstance(given, (list, tuple)) else []
