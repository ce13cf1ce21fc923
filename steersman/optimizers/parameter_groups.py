"""Parameter groups of an optimizer: their names, and the values that a change of a base value moves.

Uses only attributes of torch's optimizers and schedules. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol


class Optimizer(Protocol):
    """The part of `torch.optim.Optimizer` that is used."""

    param_groups: list[dict[str, Any]]


# Keys of a group: the value in effect, and the values that torch's schedules store beside it.
LEARNING_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
# Attributes of schedules with one value per group. Those of timm have `base_values`.
OF_SCHEDULES = ("base_lrs", "max_lrs", "_last_lr", "base_values")


def group_names(optimizer: Optimizer) -> tuple[str, ...]:
    """Return the names of the parameter groups where each has one of its own, else nothing."""
    names = tuple(str(group.get("name") or "") for group in optimizer.param_groups)
    return names if all(names) and len(set(names)) == len(names) else ()


def has_learning_rates(optimizer: object) -> bool:
    """Return whether this is an optimizer: it has parameter groups, each with a learning rate."""
    groups = getattr(optimizer, "param_groups", None)
    return isinstance(groups, list) and bool(groups) and all(isinstance(each, dict) and "lr" in each for each in groups)


def is_schedule(given: object) -> bool:
    """Return whether this may be a schedule, a list of them, or None: people write classes of their own."""
    if isinstance(given, (list, tuple)):
        return all(map(is_schedule, given))
    return not isinstance(given, (str, bytes, int, float, Mapping))


def base_learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Return the base value by the names of the parameter groups; that of the first under "" where they have none."""
    names = group_names(optimizer) or ("",)
    return {name: base_learning_rate(group) for name, group in zip(names, optimizer.param_groups, strict=False)}


def base_of_group(optimizer: Optimizer, name: str) -> float | None:
    """Return the base value of a parameter group, of the first where `name` is ""; None where it is gone."""
    named = (group for group in optimizer.param_groups if not name or group.get("name") == name)
    first = next(named, None)
    return None if first is None else base_learning_rate(first)


def own_learning_rates(optimizer: Optimizer) -> None:
    """Give each group a learning rate of its own.

    torch puts the tensor that was given for all groups into each of them: a change of one would change the others.
    """
    seen: set[int] = set()
    for group in optimizer.param_groups:
        if id(group["lr"]) in seen and hasattr(group["lr"], "clone"):
            group["lr"] = group["lr"].clone()
        seen.add(id(group["lr"]))


def keep_base(optimizer: Optimizer) -> None:
    """Keep the present learning rate of each group as its base, unless a schedule has done so.

    ReduceLROnPlateau lowers the learning rate itself. The key is that of torch, and part of the optimizer's state.
    """
    for group in optimizer.param_groups:
        if "max_lr" not in group and "initial_lr" not in group:
            rate = group["lr"]
            group["initial_lr"] = rate.clone() if hasattr(rate, "clone") else rate


def learning_rate_in_effect(optimizer: Optimizer, name: str = "") -> Any:
    """Return the learning rate of a parameter group, of the first where it has no name, as the optimizer holds it.

    Not a number if the group is gone.
    """
    return next((each["lr"] for each in optimizer.param_groups if not name or each.get("name") == name), math.nan)


def base_learning_rate(group: Mapping[str, Any]) -> float:
    """Return the learning rate that a schedule multiplies."""
    return float(group.get("max_lr", group.get("initial_lr", group["lr"])))


def change_learning_rate(
    optimizer: Optimizer, scheduler: object | None, old: float, new: float, name: str = ""
) -> None:
    """Move the base value from `old` to `new`, and with it at once all that a schedule made of it.

    `name` is the parameter group concerned; "" for all: then a group with another value keeps its ratio to `old`.
    """
    found = (getattr(schedule, key, None) for schedule in _nested(scheduler) for key in OF_SCHEDULES)
    # By identity: combined schedules share their lists, and each list must be changed once.
    of_schedules = {id(values): values for values in found if isinstance(values, list)}.values()
    own_learning_rates(optimizer)
    # Tensors moved so far: a schedule may hold that of a group.
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
            # In place: a captured CUDA graph reads it at its address.
            moved = value.mul_(new / old) if old else value.fill_(new)
            tensors[id(value)], tensors[id(moved)] = value, moved
            return moved
        return value
    if value == old:
        return new
    return value * (new / old) if old else new


def _nested(scheduler: object | None) -> Iterator[object]:
    """Yield a schedule and those that it is made of, or wraps as Accelerate does; each of several in a list."""
    if scheduler is None:
        return
    if isinstance(scheduler, (list, tuple)):
        for each in scheduler:
            yield from _nested(each)
        return
    yield scheduler
    for inner in (*getattr(scheduler, "_schedulers", ()), getattr(scheduler, "scheduler", None)):
        yield from _nested(inner)
