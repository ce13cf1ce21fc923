"""The training loop, to be read from top to bottom. Knows torch and the recipe; of the run only what it logs to.

Numbers on a GPU stay there until their copies have arrived: nothing in the step path asks for a value.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from trainer.progress import Outcome, Progress, Watched
from trainer.recipe import Recipe
from trainer.saving import Keeper


def train(recipe: Recipe, run: Watched, checkpoint: Mapping[str, Any] | None = None) -> Outcome:
    """Train `recipe` to its last epoch or until `run.stopping`; go on from `checkpoint` where one is given.

    The generators must be seeded (`trainer.randomness.seed_everything`). A recipe's exceptions pass through.
    """
    recipe.build()
    device = recipe.device
    dtype = precision_of(recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    parameters = [each for each in recipe.model.parameters() if each.requires_grad]
    keeper = Keeper(run, recipe, scaler)
    progress = Progress()
    if checkpoint is not None:
        progress = keeper.restore(checkpoint)
    steps_per_epoch = recipe.steps_per_epoch
    units = recipe.units_per_sample
    run.plan(total_epochs=recipe.epochs, total_steps=recipe.epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch)

    while progress.epoch <= recipe.epochs:
        recipe.model.train()
        batches = iter(recipe.train_batches(progress.epoch, progress.batch))
        while progress.batch < steps_per_epoch:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                raise RuntimeError(
                    f"train_batches ended after {progress.batch} batches of epoch {progress.epoch}; "
                    f"steps_per_epoch says {steps_per_epoch}"
                )
            waited = time.perf_counter() - began
            # ------------------------------------------------------------------------------------
            # one step
            with mixed_precision(device, dtype):
                loss, values = recipe.loss(batch)
            scaler.scale(loss).backward()
            scaler.unscale_(recipe.optimiser)
            gradient_norm = clip(parameters, recipe.gradient_clip)
            learning_rate = recipe.optimiser.param_groups[0]["lr"]
            scaler.step(recipe.optimiser)
            scaler.update()
            if recipe.scheduler is not None:
                recipe.scheduler.step()
            recipe.optimiser.zero_grad(set_to_none=True)
            # ------------------------------------------------------------------------------------
            seconds = time.perf_counter() - began
            samples = len(batch[0])
            means = {"loss": loss.detach(), **{name: value.detach() for name, value in values.items()}}
            progress.step += 1
            progress.batch += 1
            progress.samples += samples
            progress.seconds += seconds
            add_to(progress.sums, means, samples)
            run.log(
                progress.step,
                **{f"train/{name}": number(value) for name, value in (means | recipe.derived(means)).items()},
                **{
                    "optimiser/learning_rate": learning_rate,
                    "optimiser/gradient_norm": number(gradient_norm),
                    "speed/samples_per_second": samples / seconds,
                    **{f"speed/{unit}_per_second": count * samples / seconds for unit, count in units.items()},
                    "speed/step_ms": seconds * 1e3,
                    "speed/data_wait_share": waited / seconds,
                },
            )
            if run.stopping:
                keeper.save(progress, "stop")
                run.finish("stopped", step=progress.step)
                return "stopped"

        progress.seconds += wait_for(device)
        began = time.perf_counter()
        recipe.model.eval()
        with torch.no_grad(), mixed_precision(device, dtype):
            evaluated = {name: float(value) for name, value in recipe.evaluate().items()}
            texts = recipe.texts()
        means = {name: value / progress.samples for name, value in progress.sums.items()}
        samples_per_second = progress.samples / progress.seconds
        best = is_best(recipe, evaluated, progress)
        run.log_epoch(
            progress.epoch,
            step=progress.step,
            duration_s=progress.seconds + time.perf_counter() - began,
            best=best,
            **{f"train_{name}": float(value) for name, value in (means | recipe.derived(means)).items()},
            **evaluated,
            learning_rate=float(recipe.optimiser.param_groups[0]["lr"]),
            samples_per_second=samples_per_second,
            **{f"{unit}_per_second": count * samples_per_second for unit, count in units.items()},
        )
        for name, text in texts.items():
            run.log_text(name, text, step=progress.step, epoch=progress.epoch)
        finished = progress.epoch
        progress.begin_epoch(finished + 1)
        if best or finished % recipe.save_every == 0 or finished == recipe.epochs:
            keeper.save(progress, "best" if best else "last")

    run.finish("finished", step=progress.step)
    return "finished"


def precision_of(recipe: Recipe) -> torch.dtype:
    """Return the number format of the forward pass. A GPU of its own accord takes bfloat16 where it has it."""
    if recipe.precision != "auto":
        chosen: torch.dtype = getattr(torch, recipe.precision)
        return chosen
    if recipe.device.type != "cuda":
        return torch.float32
    # Emulated bfloat16 is slower than float32; such GPUs take float16, which needs the scaler.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def mixed_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)


def wait_for(device: torch.device) -> float:
    """Let a GPU finish the epoch's last steps and return the seconds that took, which belong to the epoch."""
    began = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def clip(parameters: list[torch.nn.Parameter], longest: float | None) -> Tensor:
    """Return the norm of all gradients, before they are shortened to `longest` where that is given."""
    if longest is not None:
        return torch.nn.utils.clip_grad_norm_(parameters, longest)
    return torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])


def number(value: Tensor) -> Tensor | float:
    """Return a value fit for `run.log`: the tensor where it is on a GPU, since reading it would wait for the GPU."""
    return value if value.is_cuda else value.item()


def add_to(sums: dict[str, Tensor], means: Mapping[str, Tensor], samples: int) -> None:
    for name, mean in means.items():
        weighted = mean.double() * samples
        sums[name] = sums[name] + weighted if name in sums else weighted


def is_best(recipe: Recipe, evaluated: Mapping[str, float], progress: Progress) -> bool:
    """Return whether this epoch is better than all before, and remember it in `progress`."""
    value = evaluated.get(recipe.best_metric)
    if value is None or value != value:
        return False
    if progress.best is not None:
        better = value > progress.best if recipe.best_is == "highest" else value < progress.best
        if not better:
            return False
    progress.best = value
    return True
