"""The training loop, readable from top to bottom. Imports torch and the recipe; of the run, only its logging is used.

Numbers on a GPU stay there until their copies have arrived: nothing in a step waits for a value.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steersman import Run
from steersman.optimizers.parameter_groups import group_names
from steersman.recorder import Outcome
from trainer.worker.branching import as_built, take_changes
from trainer.worker.checkpoints import CheckpointManager, restore
from trainer.worker.command_handlers import Steering, knobs_of
from trainer.worker.evaluation import Evaluation
from trainer.worker.parallel import Ranks
from trainer.worker.precision import mixed_precision, precision_of
from trainer.worker.progress import TrainingProgress
from trainer.worker.randomness import seed_rank
from trainer.worker.recipe import LEARNING_RATE_SERIES, Recipe


def train(
    recipe: Recipe,
    run: Run,
    checkpoint: Mapping[str, Any] | None = None,
    *,
    segment: int = 1,
    extra_epochs: int = 0,
    is_branch: bool = False,
) -> Outcome:
    """Train `recipe` to its last epoch or until `run.stopping`; resume from `checkpoint` if one is given.

    The generators must be seeded (`trainer.worker.randomness.seed_everything`). `segment` is the attempt's number,
    `extra_epochs` are added to those for which the recipe was built. If `is_branch`, the checkpoint belongs to another
    run: values that `recipe` builds differently are applied. A recipe's exceptions are raised unchanged.
    """
    recipe.build()
    if recipe.rank:
        seed_rank(recipe.seed, recipe.rank)
    device = recipe.device
    dtype = precision_of(recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    parameters = [each for each in recipe.model.parameters() if each.requires_grad]
    groups = group_names(recipe.optimizer)
    built = as_built(recipe)
    knobs = knobs_of(recipe)
    progress = TrainingProgress()
    if checkpoint is not None:
        progress = restore(recipe, scaler, knobs, checkpoint)
        if is_branch:
            take_changes(recipe, progress, built, checkpoint.get("built"))
    progress.segment = segment
    progress.extra_epochs = max(progress.extra_epochs, extra_epochs)
    # After building, so that a schedule over the configured epochs is not stretched.
    recipe.epochs += progress.extra_epochs
    run.begin_at(progress.step, progress.epoch - 1)
    run.declare(*knobs)
    checkpoints = CheckpointManager(run, recipe, scaler, knobs, built)
    evaluation = Evaluation(recipe, run, dtype)
    steering = Steering(recipe, run, checkpoints, progress, evaluation)
    steering.plan()
    if recipe.watch_layers:
        run.watch_layers(recipe.model, every=recipe.watch_layers)
    ranks = Ranks(recipe)
    steps_per_epoch = recipe.steps_per_epoch
    units = recipe.units_per_sample

    def stop() -> Outcome:
        if run.saves_on_stop:
            checkpoints.save(progress, "stop")
        run.finish("stopped", step=progress.step)
        return "stopped"

    if run.stopping:
        return stop()
    while progress.epoch <= recipe.epochs:
        recipe.model.train()
        recipe.batches_changed = False
        batches = iter(recipe.train_batches(progress.epoch, progress.batch))
        while progress.batch < steps_per_epoch:
            began = time.perf_counter()
            if recipe.batches_changed:
                recipe.batches_changed = False
                batches = iter(recipe.train_batches(progress.epoch, progress.batch))
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(
                    f"train_batches ended after {progress.batch} batches of epoch {progress.epoch}, but "
                    f"steps_per_epoch is {steps_per_epoch}: yield as many batches, or lower steps_per_epoch"
                )
            if progress.left_out and progress.leaves_out_next(steps_per_epoch):
                progress.batch += 1
                continue
            waited = own = time.perf_counter() - began
            # ------------------------------------------------------------------------------------
            # one step
            samples, weight = ranks.shard(progress.batch, len(batch[0]))
            with ranks.together(), mixed_precision(device, dtype):
                loss, values = recipe.loss(batch)
            if ranks.forward_is_own:
                own = time.perf_counter() - began
            scaler.scale(loss if weight == 1.0 else loss * weight).backward()
            scaler.unscale_(recipe.optimizer)
            gradient_norm = clip(parameters, recipe.gradient_clip)
            rates = [group["lr"] for group in recipe.optimizer.param_groups]
            scaler.step(recipe.optimizer)
            scaler.update()
            if recipe.scheduler is not None:
                recipe.scheduler.step()
            recipe.optimizer.zero_grad(set_to_none=True)
            # ------------------------------------------------------------------------------------
            seconds = time.perf_counter() - began
            means = {"loss": loss.detach(), **{name: value.detach() for name, value in values.items()}}
            # With these weights, the mean over ranks is that of the whole batch.
            told = means if weight == 1.0 else {name: mean * weight for name, mean in means.items()}
            progress.step += 1
            progress.batch += 1
            progress.samples += samples
            progress.seconds += seconds
            add_to(progress.sums, means, samples)
            run.log(
                progress.step,
                **{f"train/{name}": number(value) for name, value in (told | recipe.derived(means)).items()},
                **{
                    LEARNING_RATE_SERIES: rates[0],
                    **{f"{LEARNING_RATE_SERIES}/{name}": rate for name, rate in zip(groups, rates, strict=False)},
                    "optimizer/gradient_norm": number(gradient_norm),
                    "speed/samples_per_second": samples / seconds,
                    **{f"speed/{unit}_per_second": count * samples / seconds for unit, count in units.items()},
                    "speed/step_ms": seconds * 1e3,
                    "speed/data_wait_fraction": waited / seconds,
                    **({"speed/own_ms": own * 1e3} if recipe.ranks > 1 else {}),
                },
            )
            if began > checkpoints.hourly_due_at and run.rank == 0:
                run.request("save_hourly")
            if run.stopping:
                return stop()

        progress.seconds += wait_for(device)
        began = time.perf_counter()
        means, samples = ranks.of_epoch(progress)
        # Only on rank 0: the others wait for its result.
        evaluated = evaluation.values() if run.rank == 0 else {}
        written = evaluation.texts() if run.rank == 0 else {}
        samples_per_second = samples / progress.seconds
        best = ranks.agree_on_best(is_best(recipe, evaluated, progress), progress)
        trained = {f"train_{name}": float(value) for name, value in (means | recipe.derived(means)).items()}
        run.log_epoch(
            progress.epoch,
            step=progress.step,
            duration_s=progress.seconds + time.perf_counter() - began,
            best=best,
            **trained,
            **evaluated,
            learning_rate=float(recipe.optimizer.param_groups[0]["lr"]),
            samples_per_second=samples_per_second,
            **{f"{unit}_per_second": count * samples_per_second for unit, count in units.items()},
        )
        for name, text in written.items():
            run.log_text(name, text, step=progress.step, epoch=progress.epoch)
        finished = progress.epoch
        progress.begin_epoch(finished + 1)
        if best or finished % recipe.save_every == 0 or finished == recipe.epochs:
            checkpoints.save(progress, "best" if best else "last", metrics=trained | evaluated)
        # After the last epoch a stop has no effect, because the training is finished.
        if run.stopping and progress.epoch <= recipe.epochs:
            return stop()

    run.finish("finished", step=progress.step)
    return "finished"


def wait_for(device: torch.device) -> float:
    """Wait until a GPU has finished the epoch's last steps; return the seconds, which belong to the epoch."""
    began = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def clip(parameters: list[torch.nn.Parameter], max_norm: float | None) -> Tensor:
    """Return the norm of all gradients before they are clipped to `max_norm`, if it is given."""
    if max_norm is not None:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])


def number(value: Tensor) -> Tensor | float:
    """Return a value for `run.log`: a tensor if it is on a GPU, because reading it would wait for the GPU."""
    return value if value.is_cuda else value.item()


def add_to(sums: dict[str, Tensor], means: Mapping[str, Tensor], samples: int) -> None:
    for name, mean in means.items():
        weighted = mean.double() * samples
        sums[name] = sums[name] + weighted if name in sums else weighted


def is_best(recipe: Recipe, evaluated: Mapping[str, float], progress: TrainingProgress) -> bool:
    """Return whether this epoch is the best so far; store its value in `progress` if it is."""
    value = evaluated.get(recipe.best_metric)
    if value is None or value != value:
        return False
    if progress.best is not None:
        better = value > progress.best if recipe.best_is == "highest" else value < progress.best
        if not better:
            return False
    progress.best = value
    return True
