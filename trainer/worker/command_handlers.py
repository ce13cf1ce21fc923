"""Handlers of commands in a recipe's training: knobs, saving, evaluating, more epochs.

Everything here runs at a step boundary, between two steps. Imports torch and the recipe; of the run, only its logging
is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from steersman import Run
from steersman.commands import Done, Refusal
from steersman.files.checkpoint import Damaged, read_manifest
from steersman.kinds import Value
from steersman.knobs import Knob
from steersman.optimizers import parameter_groups
from steersman.records.posted import ExtendArguments, RollBackArguments, SaveCheckpointArguments
from steersman.records.typed_json import Json, from_fields
from steersman.spec import ValueSpec
from trainer.worker.checkpoints import CheckpointError, CheckpointManager, read_checkpoint
from trainer.worker.evaluation import Evaluation
from trainer.worker.progress import TrainingProgress
from trainer.worker.recipe import Recipe

# Unless a recipe declares its own setters, these apply to parameter groups, with one value per group.
OF_GROUPS = ("learning_rate", "weight_decay")


class Steering:
    """Executes the commands for one training."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        checkpoints: CheckpointManager,
        progress: TrainingProgress,
        evaluation: Evaluation,
    ) -> None:
        self._recipe = recipe
        self._run = run
        self._checkpoints = checkpoints
        self._progress = progress
        self._evaluation = evaluation
        run.on("save_checkpoint", self.save_checkpoint)
        run.on("save_hourly", self.save_hourly)
        run.on("evaluate", self.evaluate)
        run.on("extend", self.extend)
        run.on("roll_back", self.roll_back)

    def plan(self) -> None:
        """Record the length of the training.

        It is computed from the remaining steps, because earlier epochs may have had more or fewer, before a branch.
        """
        epochs, steps, progress = self._recipe.epochs, self._recipe.steps_per_epoch, self._progress
        left = max(0, (epochs - progress.epoch + 1) * steps - progress.batch)
        self._run.plan(total_epochs=epochs, total_steps=progress.step + left, steps_per_epoch=steps)

    def save_checkpoint(self, arguments: dict[str, Json]) -> Done:
        """Save a checkpoint; with a name, it is kept. A signal passes no name. Raises `Refusal`."""
        name = from_fields(SaveCheckpointArguments, arguments).name
        problem = self._checkpoints.save(self._progress, "named" if name else "last", name=name or "signal")
        if problem:
            raise Refusal(f"The checkpoint could not be saved: {problem}.")
        return Done(new=name or None)

    def save_hourly(self, arguments: dict[str, Json]) -> Done:
        """Save a checkpoint because the last one is an hour old; the checkpoint manager reports failures."""
        self._checkpoints.save(self._progress, "hourly")
        return Done()

    def evaluate(self, arguments: dict[str, Json]) -> Done:
        """Evaluate between two steps, without an effect on the training. Rank 0 evaluates, the others wait."""
        if self._run.rank:
            return Done()
        values = self._evaluation.values_in_passing()
        self._run.log(self._progress.step, **{f"evaluation/{name}": value for name, value in values.items()})
        return Done(new={name: value if math.isfinite(value) else None for name, value in values.items()})

    def extend(self, arguments: dict[str, Json]) -> Done:
        """Train more epochs; a schedule is not changed."""
        old = self._recipe.epochs
        epochs = from_fields(ExtendArguments, arguments).epochs
        self._progress.extra_epochs += epochs
        self._recipe.epochs = old + epochs
        self.plan()
        return Done(old=old, new=self._recipe.epochs)

    def roll_back(self, arguments: dict[str, Json]) -> Done:
        """Roll back to a verified checkpoint.

        All ranks read it before any of them changes anything. Raises `Refusal`.
        """
        folder = Path(str(arguments["folder"]))
        content: dict[str, Any] = {}
        problem = ""
        try:
            manifest = read_manifest(folder, str(arguments["sha256"]))
            content = read_checkpoint(folder, manifest, self._run.rank)
        except (CheckpointError, Damaged, KeyError) as error:
            problem = str(error)
        if problem := self._run.agree(problem):
            raise Refusal(problem)
        progress, wanted = self._progress, from_fields(RollBackArguments, arguments)
        before = self._checkpoints.present(progress)
        left_out = list(progress.left_out)
        # The batch of the step that the training has reached is the last one that is done.
        last, left = progress.batches(self._recipe.steps_per_epoch) - 1, progress.step

        def undo() -> None:
            self._checkpoints.put_back(progress, before)
            progress.left_out = left_out

        try:
            self._checkpoints.put_back(progress, content)
        except BaseException as error:
            undo()
            if isinstance(error, CheckpointError):
                raise Refusal(str(error)) from error
            raise
        if wanted.skip_from is None:
            self._skip(wanted.skip_batches)
        else:
            progress.leave_out(last - (left - wanted.skip_from), wanted.skip_batches)
        goes_on_from = (progress.step, progress.epoch - 1)
        return Done(undo=undo, goes_on_from=goes_on_from, restores_knobs=True)

    def _skip(self, batches: int) -> None:
        """Advance the position in the data.

        The last batch of the epoch is trained in any case, so that the epoch has means.
        """
        progress, last = self._progress, self._recipe.steps_per_epoch - 1
        progress.batch = max(progress.batch, min(progress.batch + batches, last))


def knobs_of(recipe: Recipe) -> list[Knob]:
    """Return the knobs that a built recipe declares."""
    return [_knob(recipe, spec) for spec in recipe.turnable.values()]


def _knob(recipe: Recipe, spec: ValueSpec) -> Knob:
    setter: Callable[..., object] | None = getattr(recipe, f"set_{spec.name}", None)
    own = getattr(type(recipe), f"set_{spec.name}", None) is not getattr(Recipe, f"set_{spec.name}", None)
    names = parameter_groups.group_names(recipe.optimizer) if spec.name in OF_GROUPS and not own else ()

    def turn(value: Value, group: str = "") -> None:
        if setter is not None:
            setter(value, group) if group else setter(value)
        if not group:
            setattr(recipe, spec.name, value)

    effective = None
    if spec.name == "learning_rate" and recipe.scheduler is not None:
        effective = partial(parameter_groups.learning_rate_in_effect, recipe.optimizer)
    if not names:
        return Knob(spec, getattr(recipe, spec.name), apply=turn, effective=effective)
    values = {str(group["name"]): _of_group(spec.name, group) for group in recipe.optimizer.param_groups}
    return Knob(replace(spec, groups=names).with_room_for(values.values()), values, apply=turn, effective=effective)


def _of_group(name: str, group: dict[str, Any]) -> float:
    return parameter_groups.base_learning_rate(group) if name == "learning_rate" else float(group["weight_decay"])
