"""Applies the changed parameters of a branch to the checkpoint at which it begins.

A checkpoint restores the state of optimizer and schedule, including the values with which they were built, and contains
those values separately. If the branch builds other values, they follow from the changed parameters and are applied.
Knobs are restored afterwards, as in every attempt (`steersman.knobbed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steersman.checkpoints.putting_back import copied
from steersman.optimizers.parameter_groups import (
    LEARNING_RATES,
    OF_SCHEDULES,
    base_learning_rate,
    change_learning_rate,
    group_names,
)
from trainer.worker.progress import TrainingProgress
from trainer.worker.recipe import Recipe

LEARNING_RATE = "learning_rate"
# In parameter groups and schedules, the learning rate and the values that a schedule derives from it change together.
MOVED_TOGETHER = frozenset({*LEARNING_RATES, *OF_SCHEDULES})


def as_built(recipe: Recipe) -> dict[str, Any]:
    """Return a copy of what a recipe has just built, except the model, in plain values for checkpoints."""
    scheduler = recipe.scheduler
    return {
        "groups": [
            copied({name: value for name, value in group.items() if name != "params"})
            for group in recipe.optimizer.param_groups
        ],
        "scheduler": copied(scheduler.state_dict()) if scheduler is not None else None,
        "steps_per_epoch": recipe.steps_per_epoch,
    }


def take_changes(
    recipe: Recipe, progress: TrainingProgress, built: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """Apply the values that `recipe` built differently from the recipe of its checkpoint, whose state it has.

    `built` and `before` are the results of `as_built` for both; without `before`, all values of the checkpoint stay. If
    the number of steps per epoch differs, an epoch continues at the same fraction of its data.
    """
    if before is None:
        return
    for group, new, old in zip(recipe.optimizer.param_groups, built["groups"], before["groups"], strict=False):
        group.update(_differing(new, old))
    scheduler = recipe.scheduler
    if scheduler is not None and built["scheduler"] is not None and before["scheduler"] is not None:
        scheduler.load_state_dict(_merged(scheduler.state_dict(), built["scheduler"], before["scheduler"]))
    if LEARNING_RATE not in recipe.turnable:
        _take_learning_rates(recipe, built["groups"], before["groups"])
    if (steps := built["steps_per_epoch"]) != before["steps_per_epoch"]:
        progress.batch = progress.batch * steps // before["steps_per_epoch"]
        # Their numbers are those of other batches now.
        progress.left_out = []


def _differing(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in new.items()
        if name not in MOVED_TOGETHER and name in old and not _are_same(value, old[name])
    }


def _merged(saved: Any, new: Any, old: Any) -> Any:
    """Return the saved state with the values that were built differently, at any depth."""
    if _are_same(new, old):
        return saved
    if all(isinstance(each, dict) for each in (saved, new, old)):
        return {
            name: _merged(value, new[name], old[name])
            if name in new and name in old and name not in MOVED_TOGETHER
            else value
            for name, value in saved.items()
        }
    if all(isinstance(each, list) for each in (saved, new, old)) and len(saved) == len(new) == len(old):
        return [_merged(*each) for each in zip(saved, new, old, strict=True)]
    return new


def _are_same(one: Any, other: Any) -> bool:
    """Return whether two plain values are equal; tensors in them are compared by value."""
    if hasattr(one, "tolist") or hasattr(other, "tolist"):
        return type(one) is type(other) and bool(one.tolist() == other.tolist())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_same(value, other[name]) for name, value in one.items())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_are_same, one, other))
    return bool(one == other)


def _take_learning_rates(recipe: Recipe, built: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """Scale the learning rates of a recipe without a knob for them, by the ratio of the built values."""
    names = group_names(recipe.optimizer)
    for index, (new, old) in enumerate(zip(built, before, strict=False)):
        wanted, had = base_learning_rate(new), base_learning_rate(old)
        # Groups without names keep their ratio to the first.
        if wanted == had or (index and not names):
            continue
        present = base_learning_rate(recipe.optimizer.param_groups[index])
        moved = present * (wanted / had) if had else wanted
        change_learning_rate(recipe.optimizer, recipe.scheduler, present, moved, names[index] if names else "")
