"""Norms of parameters, gradients and updates, with few kernels and one copy to the CPU per device.

Nothing here waits for a device, and no rank waits for another. torch is not imported: `torch` is the module that the
training has loaded. All norms are Euclidean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# An update is measured at this many places of a parameter, evenly spread: a copy of all weights may not fit into
# memory.
MOST_PLACES = 1 << 14
# Bytes per element: norms of shorter elements are summed in 32 bits.
OF_FLOAT32 = 4


class Updates:
    """The values of parameters at `MOST_PLACES` places each, to be compared with those after the step."""

    def __init__(self, torch: Any, parameters: Sequence[Any]) -> None:
        """`parameters` are on one device."""
        self._torch = torch
        parts = [_places_of(parameter) for parameter in parameters]
        self._sizes = [len(part) for part in parts]
        # The square of a norm grows with the number of places.
        self.factors = [
            math.sqrt(parameter.numel() / size) if size else 1.0
            for parameter, size in zip(parameters, self._sizes, strict=True)
        ]
        self._before = wide(torch, torch.cat(parts))

    def norms(self, parameters: Sequence[Any]) -> list[Any]:
        """Return the norm of the change in each of the same parameters since then.

        Multiplied by `factors`, it is the norm of the whole parameter.
        """
        present = wide(self._torch, self._torch.cat([_places_of(parameter) for parameter in parameters]))
        return list(self._torch._foreach_norm((present - self._before).split(self._sizes)))


def _places_of(parameter: Any) -> Any:
    flat = parameter.detach().reshape(-1)
    if len(flat) <= MOST_PLACES:
        return flat
    # An odd stride, so that it does not always hit the same column of a row.
    return flat[:: -(-len(flat) // MOST_PLACES) | 1]


def wide(torch: Any, tensor: Any) -> Any:
    """Return a tensor with at least 32 bits per element."""
    return tensor.float() if tensor.element_size() < OF_FLOAT32 else tensor


def norms_of(torch: Any, tensors: Sequence[Any]) -> list[Any]:
    """Return the norms of several tensors of one device, as tensors with one element on it."""
    norms: list[Any] = [None] * len(tensors)
    by_type: dict[Any, list[int]] = {}
    for place, tensor in enumerate(tensors):
        by_type.setdefault(tensor.dtype, []).append(place)
    for places in by_type.values():
        alike = [tensors[place] for place in places]
        # In 16 bits a norm above 65,504 would be infinite, and others would be rounded to three digits.
        precision = torch.float32 if alike[0].element_size() < OF_FLOAT32 else None
        for place, norm in zip(places, torch._foreach_norm(alike, 2, dtype=precision), strict=True):
            norms[place] = norm
    return norms


def to_cpu(torch: Any, norms: Sequence[Any]) -> tuple[Any, Any]:
    """Return the norms of one device as one tensor that is being copied to the CPU, and the event of its arrival.

    The event is None if it has arrived. Values of CUDA are copied without waiting.
    """
    together = torch.stack([norm if norm.dtype == torch.float64 else norm.float() for norm in norms])
    if not together.is_cuda:
        return together.to("cpu"), None
    copy = together.to("cpu", non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(together.device))
    return copy, event


def local_part(tensor: Any) -> Any:
    """Return this rank's part of a tensor that is sharded over ranks; any other tensor unchanged."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def shards_of(tensor: Any) -> int:
    """Return the number of ranks over which a DTensor is sharded, 1 for any other tensor."""
    mesh = getattr(tensor, "device_mesh", None)
    if mesh is None:
        return 1
    return math.prod(mesh.size(place) for place, each in enumerate(tensor.placements) if each.is_shard())


def shards_by_module(model: Any) -> dict[int, int]:
    """Return the number of ranks over which FullyShardedDataParallel shards parameters, by their identity."""
    found: dict[int, int] = {}
    for module in model.modules():
        if type(module).__name__ != "FullyShardedDataParallel":
            continue
        if getattr(getattr(module, "sharding_strategy", None), "name", "") == "NO_SHARD":
            continue
        shards = module.process_group.size()
        # Inner modules come later, and are more specific.
        found |= {id(parameter): shards for parameter in module.parameters()}
    return found
