"""Parameter groups of an optimizer: their names, and the values that change with a base value.

Uses only attributes of torch's optimizers and schedules. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class Optimizer(Protocol):
    """The part of `torch.optim.Optimizer` that is used."""

    param_groups: list[dict[str, Any]]


# Keys of a group: the effective value, and the values that torch's schedules store with it.
LEARNING_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
# Attributes of schedules with one value per group. Schedules of timm have `base_values`.
OF_SCHEDULES = ("base_lrs", "max_lrs", "_last_lr", "base_values")


def group_names(optimizer: Optimizer) -> tuple[str, ...]:
    """Return the names of the parameter groups if each has its own, else nothing."""
    names = tuple(str(group.get("name") or "") for group in optimizer.param_groups)
    return names if all(names) and len(set(names)) == len(names) else ()


def has_learning_rates(optimizer: object) -> bool:
    """Return whether this is an optimizer: it has parameter groups, each with a learning rate."""
    groups = getattr(optimizer, "param_groups", None)
    return isinstance(groups, list) and bool(groups) and all(isinstance(each, dict) and "lr" in each for each in groups)


def is_schedule(given: object) -> bool:
    """Return whether this may be a schedule, a list of them, or None: people also write their own classes."""
    if isinstance(given, (list, tuple)):
        return all(map(is_schedule, given))
    return not isinstance(given, (str, bytes, int, float, Mapping))


def base_learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Return the base value by the names of the parameter groups; without names, that of the first under ""."""
    names = group_names(optimizer) or ("",)
    return {name: base_learning_rate(group) for name, group in zip(names, optimizer.param_groups, strict=False)}


def base_of_group(optimizer: Optimizer, name: str) -> float | None:
    """Return the base value of a parameter group, of the first if `name` is ""; None if the group no longer exists."""
    named = (group for group in optimizer.param_groups if not name or group.get("name") == name)
    first = next(named, None)
    return None if first is None else base_learning_rate(first)


def own_learning_rates(optimizer: Optimizer) -> None:
    """Give each group its own learning rate.

    torch puts the same tensor into each group: a change of one group would change the others.
    """
    seen: set[int] = set()
    for group in optimizer.param_groups:
        if id(group["lr"]) in seen and hasattr(group["lr"], "clone"):
            group["lr"] = group["lr"].clone()
        seen.add(id(group["lr"]))


def keep_base(optimizer: Optimizer) -> None:
    """Store the current learning rate of each group as its base, unless a schedule has done so.

    ReduceLROnPlateau lowers the learning rate itself. The key is torch's, and part of the optimizer's state.
    """
    for group in optimizer.param_groups:
        if "max_lr" not in group and "initial_lr" not in group:
            rate = group["lr"]
            group["initial_lr"] = rate.clone() if hasattr(rate, "clone") else rate


def learning_rate_in_effect(optimizer: Optimizer, name: str = "") -> Any:
    """Return the learning rate of a parameter group as the optimizer stores it; without a name, of the first group.

    NaN if the group no longer exists.
    """
    return next((each["lr"] for each in optimizer.param_groups if not name or each.get("name") == name), math.nan)


def base_learning_rate(group: Mapping[str, Any]) -> float:
    """Return the learning rate that a schedule multiplies."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def change_learning_rate(
    optimizer: Optimizer, scheduler: object | None, old: float, new: float, name: str = ""
) -> None:
    """Change the base value from `old` to `new`, together with all values that a schedule derived from it.

    `name` is the parameter group, "" for all groups: a group with another value then keeps its ratio to `old`.
    """
    found = (getattr(schedule, key, None) for schedule in _nested(scheduler) for key in OF_SCHEDULES)
    # By identity: combined schedules share their lists, and each list must be changed only once.
    of_schedules = {id(values): values for values in found if isinstance(values, list)}.values()
    own_learning_rates(optimizer)
    # Tensors changed so far: a schedule may contain that of a group.
    tensors: dict[int, Any] = {}
    for index, group in enumerate(optimizer.param_groups):
        if name and group.get("name") != name:
            continue
        for key in LEARNING_RATES:
            if key in group:
                group[key] = _moved(group[key], old, new, tensors)
        for values in of_schedules:
            if index < len(values):
                values[index] = _moved(values[index], old, new, tensors)


def _moved(value: Any, old: float, new: float, tensors: dict[int, Any]) -> Any:
    if hasattr(value, "fill_"):
        if id(value) not in tensors:
            # In place, because a captured CUDA graph reads it at its address.
            moved = value.mul_(new / old) if old else value.fill_(new)
            tensors[id(value)], tensors[id(moved)] = value, moved
            return moved
        return value
    if value == old:
        return new
    return value * (new / old) if old else new


def _nested(scheduler: object | None) -> Iterator[object]:
    """Yield a schedule and its parts, or the one that it wraps, as Accelerate does; for a list, those of all."""
    if scheduler is None:
        return
    if isinstance(scheduler, (list, tuple)):
        for each in scheduler:
            yield from _nested(each)
        return
    yield scheduler
    for inner in (*getattr(scheduler, "_schedulers", ()), getattr(scheduler, "scheduler", None)):
        yield from _nested(inner)
