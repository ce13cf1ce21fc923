"""A small recipe, and a run that only keeps what its training logs, for tests of the loop without a journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steersman import Run
from steersman.files.checkpoint import verify_checkpoint
from trainer.worker.checkpoints import load_checkpoint
from trainer.worker.loop import train
from trainer.worker.randomness import sample_uniform, seed_everything
from trainer.worker.recipe import Batch, Recipe, parameter

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads wait for each other if tests share few cores, and add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class RememberingRun(Run):
    """Keeps what the training logs, and stops after step `stop_at`."""

    def __init__(self, folder: Path | None = None, stop_at: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self._stop_at = stop_at
        self.points: dict[int, dict[str, float]] = {}
        self.epochs: dict[int, dict[str, Any]] = {}
        self.checkpoints: list[dict[str, Any]] = []
        self.notes: list[tuple[str, str]] = []
        self.texts: dict[tuple[int | None, str], str] = {}
        self.planned: dict[str, int | None] = {}
        self.outcome = ""

    @property
    def stopping(self) -> bool:
        return self._stop_at is not None and max(self.points, default=0) >= self._stop_at

    def log(self, step: int, /, **values: Any) -> None:
        assert step not in self.points
        self.points[step] = {name: float(value) for name, value in values.items()}

    def log_epoch(self, epoch: int, /, **values: Any) -> None:  # type: ignore[override]
        self.epochs[epoch] = values

    def plan(self, **totals: int | None) -> None:  # type: ignore[override]
        self.planned = totals

    def note(self, text: str, level: str = "info") -> None:
        self.notes.append((level, text))

    def log_text(self, name: str, text: str, /, *, step: int | None = None, epoch: int | None = None) -> None:
        self.texts[epoch, name] = text

    def record_checkpoint(self, path: Path, **fields: Any) -> None:
        verify_checkpoint(path, fields["sha256"])
        assert sum(file.stat().st_size for file in path.iterdir()) == fields["size_bytes"]
        self.checkpoints.append({"path": path, **fields})

    def finish(self, outcome: str = "finished", *, step: int | None = None) -> None:
        assert not self.outcome
        self.outcome = outcome

    def series(self, name: str) -> dict[int, float]:
        return {step: values[name] for step, values in self.points.items()}


class Noisy(Recipe):
    """A recipe with every feature that could break exact resume: dropout, momentum, schedule, augmentation."""

    best_metric = "validation_loss"
    hidden: int = parameter(8, minimum=1, maximum=64)
    breaks_at: int = parameter(0, minimum=0)

    def build(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(50, 6, generator=generator)
        self.targets = (self.inputs.sum(1) > 0).long()
        self.train_size = 40
        self.model = nn.Sequential(nn.Linear(6, self.hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(self.hidden, 2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=3, gamma=0.9)
        self.drawn: list[int] = []

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        for number, indices in enumerate(self.shuffled(epoch, first), start=first):
            self.drawn.append(number)
            noise = sample_uniform(self.seed, epoch, indices, 6).float()
            yield self.inputs[indices] + noise, self.targets[indices]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets = batch
        if self.breaks_at and len(self.drawn) >= self.breaks_at:
            raise ZeroDivisionError("the recipe is at fault")
        logits = self.model(inputs)
        accuracy = (logits.argmax(1) == targets).float().mean()
        return nn.functional.cross_entropy(logits, targets), {"accuracy": accuracy}

    def evaluate(self) -> dict[str, float | Tensor]:
        loss, values = self.loss((self.inputs[40:], self.targets[40:]))
        return {"validation_loss": loss, "validation_accuracy": values["accuracy"]}


def noisy(seed: int = 1, **parameters: Any) -> Noisy:
    return Noisy({"epochs": 4, "batch_size": 8, "threads": 1} | parameters, device=CPU, seed=seed)


def run_through(run: RememberingRun, recipe: Recipe, checkpoint: dict[str, Any] | None = None) -> RememberingRun:
    seed_everything(recipe.seed, deterministic=False)
    train(recipe, run, checkpoint)
    return run


def last_checkpoint(run: RememberingRun) -> dict[str, Any]:
    return load_checkpoint(run.checkpoints[-1]["path"], run.checkpoints[-1]["sha256"])
