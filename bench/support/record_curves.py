"""Train the built-in recipes, some of them with a real fault, and record their curves.

usage: python bench/support/record_curves.py [--only NAME]

Writes bench/data/curves.jsonl.gz for `bench/detectors.py`: a line of JSON for each training, see `curve_files.Curve`.
Seeds are fixed; times, and the series of speed, depend on the machine. Takes about five minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402  needs the path, like all below
from torch import Tensor  # noqa: E402

from bench.support.curve_files import Curve, Group, write_curves  # noqa: E402
from bench.support.curve_stories import SCHEDULES, Story, stories  # noqa: E402
from steersman import Run  # noqa: E402
from trainer.recipes.digits import Digits  # noqa: E402
from trainer.recipes.transformer import Transformer  # noqa: E402
from trainer.worker.loop import train  # noqa: E402
from trainer.worker.randomness import seed_everything  # noqa: E402
from trainer.worker.recipe import Batch, Recipe  # noqa: E402

KEPT_SERIES = ("train/loss", "train/accuracy", "optimizer/learning_rate")
SPEED_SERIES = ("speed/samples_per_second", "speed/data_wait_fraction")
KEPT_OF_EPOCH = ("validation_loss", "validation_accuracy")
LEARNING_RATE_JUMP = 100.0
OVERFLOWING_RATE = 1e30
VANISHING_RATE = 1e-9
INPUT_SCALE = 1000.0
SLOW_LOADER_S = 0.02
# So few samples of digits, some with wrong labels, that the model memorises them.
FEW_SAMPLES, WRONG_LABELS = 100, 0.3
FEW_BYTES = 8192


@dataclass
class Rows:
    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self.steps.append(step)
        self.times.append(time.time())
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def thinned(self, every: int) -> Group:
        values = {name: column[::every] for name, column in self.values.items()}
        return Group(self.steps[::every], self.times[::every], values)


class Recording(Run):
    """A run without a supervisor, which keeps the logged values and causes the fault that changes the optimizer."""

    def __init__(self, story: Story, steps: Rows, epochs: Rows, offset: int = 0, stop_at: int | None = None) -> None:
        super().__init__()
        self._story, self._steps, self._epochs = story, steps, epochs
        self._offset, self._stop_at = offset, stop_at
        self.recipe: Recipe | None = None
        self.saved: tuple[int, dict[str, Any], dict[str, Any]] | None = None

    def log(self, step: int, /, **values: Any) -> None:  # type: ignore[override]
        step += self._offset
        wanted = KEPT_SERIES + (SPEED_SERIES if self._story.with_speed else ())
        self._steps.add(step, {name: float(values[name]) for name in wanted if name in values})
        assert self.recipe is not None
        change_rate(self.recipe, self._story, step)
        if self._stop_at == step:
            self.request_stop()

    def log_epoch(self, epoch: int, /, **values: Any) -> None:  # type: ignore[override]
        step = int(values["step"]) + self._offset
        self._epochs.add(step, {name: float(values[name]) for name in KEPT_OF_EPOCH if name in values})
        assert self.recipe is not None
        weights = {name: each.clone() for name, each in self.recipe.model.state_dict().items()}
        self.saved = (step, weights, self.recipe.optimizer.state_dict())


def change_rate(recipe: Recipe, story: Story, step: int) -> None:
    """Cause the faults and the knob changes that concern the learning rate, after step `story.begins`."""
    if step != story.begins:
        return
    if story.fault == "learning_rate":
        set_rate(recipe, lambda rate: rate * LEARNING_RATE_JUMP)
    elif story.fault == "overflow":
        set_rate(recipe, lambda rate: OVERFLOWING_RATE)
    elif story.fault == "vanishing_rate":
        set_rate(recipe, lambda rate: VANISHING_RATE)
    elif story.healthy_change == "turned":
        set_rate(recipe, lambda rate: rate * 2)


def set_rate(recipe: Recipe, changed: Callable[[float], float]) -> None:
    for group in recipe.optimizer.param_groups:
        group["lr"] = changed(group["lr"])
    if recipe.scheduler is not None:
        recipe.scheduler.base_lrs = [changed(each) for each in recipe.scheduler.base_lrs]


def told_by(base: type[Recipe], story: Story, run: Recording, offset: int) -> Recipe:
    """Return the recipe of a story: `base` with its optimizer, its schedule, and batches with its fault."""

    class Told(base):  # type: ignore[valid-type, misc]
        def build(self) -> None:
            super().build()
            self.scheduler = None
            rate = story.parameters.get("learning_rate", 0.003)
            if story.optimizer == "sgd":
                self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate, momentum=0.9)
            else:
                self.optimizer = torch.optim.Adam(self.model.parameters(), lr=rate)
            if story.fault == "few_samples":
                self.keep_few_samples()
            if story.schedule:
                fraction = SCHEDULES[story.schedule]
                schedule = torch.optim.lr_scheduler.LambdaLR
                self.scheduler = schedule(self.optimizer, lambda step: fraction((step + offset) / story.total))
            if run.saved is not None:
                _, weights, optimizer = run.saved
                self.model.load_state_dict(weights)
                if story.healthy_change == "resume":
                    self.optimizer.load_state_dict(optimizer)

        def keep_few_samples(self) -> None:
            if story.recipe == "text":
                self.training = self.training[:FEW_BYTES]
                self.train_size = (FEW_BYTES - 1) // self.context - 1
            else:
                inputs, targets = self.training
                targets = torch.where(torch.rand(len(targets)) < WRONG_LABELS, noise(targets), targets)
                self.training = inputs[:FEW_SAMPLES], targets[:FEW_SAMPLES]
                self.train_size = FEW_SAMPLES

        def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
            step = offset + (epoch - 1) * self.steps_per_epoch + first
            # A resumed training must see the data of the later epochs.
            for batch in super().train_batches(epoch + offset // self.steps_per_epoch, first):
                step += 1
                yield spoilt(batch, story, step)

    recipe = Told(story.parameters, device=torch.device("cpu"), seed=story.seed)
    run.recipe = recipe
    return recipe


def spoilt(batch: Batch, story: Story, step: int) -> Batch:
    """Cause the faults that concern the data."""
    inputs, targets = batch
    if step == story.begins and story.fault == "bad_inputs":
        # Text has no scale, so its bad batch is only noise.
        return (torch.rand_like(inputs) * INPUT_SCALE if inputs.is_floating_point() else noise(inputs), targets)
    if step == story.begins and story.fault == "bad_labels":
        return inputs, noise(targets)
    if step >= story.begins and story.fault == "shuffled_labels":
        flat = targets.flatten()
        return inputs, flat[torch.randperm(len(flat))].reshape(targets.shape)
    if step >= story.begins and story.fault == "slow_loader":
        time.sleep(SLOW_LOADER_S)
    return batch


def noise(like: Tensor) -> Tensor:
    return torch.randint(0, 256 if like.dim() > 1 else 10, like.shape)


def record(story: Story) -> Curve:
    """Train according to the story, in two attempts if the training is resumed, and return its curve."""
    steps, epochs = Rows(), Rows()
    base = Digits if story.recipe == "digits" else Transformer
    resumed = story.healthy_change in ("resume", "cold_resume")
    seed_everything(story.seed, deterministic=False)
    first = Recording(story, steps, epochs, stop_at=story.begins if resumed else None)
    train(told_by(base, story, first, 0), first)
    if resumed:
        assert first.saved is not None
        offset = first.saved[0]
        second = Recording(story, steps, epochs, offset)
        second.saved = first.saved
        train(told_by(base, story, second, offset), second, extra_epochs=0)
    every = max(1, len(steps.steps) // 800)
    begins = None if story.kind == "healthy" else story.begins
    if story.fault == "few_samples":
        losses = epochs.values["validation_loss"]
        begins = epochs.steps[losses.index(min(losses))]
    return Curve(story.name, story.kind, begins, [steps.thinned(every), epochs.thinned(1)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="record the stories whose name has this, and print their figures")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    os.environ.setdefault("STEERSMAN_DATA", tempfile.mkdtemp(prefix="curves-"))
    began = time.process_time()
    curves = []
    for story in stories():
        if only in story.name:
            curves.append(record(story))
            spent = time.process_time() - began
            print(f"{spent:6.0f} s  {story.name:40} {len(curves[-1].groups[0].steps)} points", file=sys.stderr)
    if not only:
        write_curves(curves)


if __name__ == "__main__":
    main()
