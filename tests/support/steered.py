"""A real run in a temporary folder, trained in this process, which receives commands at chosen steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.records.kinds import CheckpointRecord, OutcomeRecord, PointRecord, StateRecord
from steersman.records.posted import PostedCommand
from steersman.records.record import AnyRecord
from steersman.records.typed_json import fields_of
from steersman.run import Run, worker_lock_path
from tests.support.stack import wait_for
from trainer.worker.checkpoints import load_checkpoint
from trainer.worker.loop import train
from trainer.worker.randomness import sample_uniform, seed_everything
from trainer.worker.recipe import Batch, Recipe, parameter

CPU = torch.device("cpu")
Asks = dict[int, list[dict[str, Any]]]


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Points with noise that depends only on seed, epoch and index."""

    def __init__(self, inputs: Tensor, targets: Tensor, seed: int, epoch: int, noise: float) -> None:
        self.inputs, self.targets, self.seed, self.epoch, self.noise = inputs, targets, seed, epoch, noise

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = sample_uniform(self.seed, self.epoch, torch.tensor([index]), 6)[0].float()
        return self.inputs[index] + self.noise * noise, self.targets[index]


class Steerable(Recipe):
    """Every feature that could break exact resume, and a knob of each kind: 40 samples, 5 steps an epoch of 8."""

    batch_size = 8
    threads = 1
    learning_rate: float = parameter(0.1, minimum=1e-6, maximum=1.0, knob=True, scale="log", help="step size")
    weight_decay: float = parameter(0.0, minimum=0.0, maximum=1.0, knob=True, help="weight decay")
    dropout: float = parameter(0.5, minimum=0.0, maximum=0.9, knob=True, help="left out")
    gradient_clip: float = parameter(
        1.0, minimum=0.01, maximum=10.0, knob=True, scale="log", help="max norm of the gradient"
    )
    noise: float = parameter(1.0, minimum=0.0, maximum=2.0, knob=True, help="of the samples")
    activation: str = parameter("relu", choices=("relu", "tanh"), knob=True, help="after the hidden layer")
    loud: bool = parameter(False, knob=True, help="doubles the loss")
    fragile: float = parameter(1.0, minimum=0.0, maximum=10.0, knob=True, help="breaks above 5")
    loader_workers: int = parameter(0, minimum=0, maximum=8, help="processes that make the batches")
    use_loader: bool = parameter(False, help="make batches sample by sample")

    def build(self) -> None:
        generator = torch.Generator().manual_seed(5)
        self.inputs = torch.randn(50, 6, generator=generator)
        self.targets = (self.inputs.sum(1) > 0).long()
        self.train_size = 40
        self.model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(self.dropout), nn.Linear(8, 2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.learning_rate, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=3, gamma=0.9)
        self.inside = 1.0

    def set_noise(self, value: float) -> None:
        self.noise = value
        self.batches_changed = True

    def set_fragile(self, value: float) -> None:
        self.inside = value
        if value > 5:
            raise ZeroDivisionError("the recipe cannot do that")

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        samples = Samples(self.inputs, self.targets, self.seed, epoch, self.noise)
        if self.use_loader or self.loader_workers:
            yield from self.data_loader(samples, epoch, first, workers=self.loader_workers)
            return
        for indices in self.shuffled(epoch, first):
            noise = sample_uniform(self.seed, epoch, indices, 6).float()
            yield self.inputs[indices] + self.noise * noise, self.targets[indices]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets = batch
        hidden = self.model[0](inputs).relu() if self.activation == "relu" else self.model[0](inputs).tanh()
        logits = self.model[2](self.model[1](hidden))
        accuracy = (logits.argmax(1) == targets).float().mean()
        loss = nn.functional.cross_entropy(logits, targets)
        return (2 * loss if self.loud else loss) * self.inside, {"accuracy": accuracy}

    def evaluate(self) -> dict[str, float | Tensor]:
        # Draw random numbers, as a careless recipe would: a requested evaluation must leave no trace.
        torch.rand(3)
        loss, values = self.loss((self.inputs[40:], self.targets[40:]))
        return {"validation_loss": loss, "validation_accuracy": values["accuracy"]}


def steerable(kind: type[Steerable] = Steerable, seed: int = 1, **parameters: Any) -> Steerable:
    return kind({"epochs": 4} | parameters, device=CPU, seed=seed)


class Steered:
    """One attempt: `asks` are posted while the given step is computed (0: before the first), and act right after it."""

    def __init__(self, folder: Path, recipe: Steerable, asks: Asks | None = None, start: Any = None) -> None:
        folder.mkdir(exist_ok=True)
        lock = try_lock(worker_lock_path(folder, 0))
        assert lock is not None
        self.folder = folder
        self.recipe = recipe
        self.asks = asks or {}
        self.mailbox = Mailbox(folder)
        self.asked: list[str] = []
        for ask in self.asks.get(0, []):
            self.ask(**ask)
        self.run = Run(folder, 0, lock)
        self.start = start
        self.step = 0
        self._ask_while_training(recipe)

    def _ask_while_training(self, recipe: Steerable) -> None:
        loss = recipe.loss

        def asking(batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            if recipe.model.training:
                self.step += 1
                for ask in self.asks.get(self.step, []):
                    self.ask(**ask)
            return loss(batch)

        recipe.loss = asking  # type: ignore[method-assign]

    def ask(self, command: str, **fields: Any) -> str:
        """Post a command; what is no field of the mailbox is an argument of the command."""
        named = (
            "at_step", "at_epoch", "at_roll_backs", "expected_state", "expected_value", "expires_monotonic_s", "id"
        )  # fmt: skip
        given = {"id": str(uuid4())} | {name: fields.pop(name) for name in named if name in fields}
        self.mailbox.post(PostedCommand(command=command, author="Ada", arguments=fields, **given))
        self.asked.append(given["id"])
        return given["id"]

    def train(self, **options: Any) -> Steered:
        """Train to the end."""
        seed_everything(self.recipe.seed, deterministic=False)
        checkpoint = None
        if self.start is not None:
            checkpoint = load_checkpoint(*self.start)
            self.step = checkpoint["progress"]["step"]
        self.outcome = train(self.recipe, self.run, checkpoint, **options)
        return self

    def while_paused(self, *acts: Callable[[], object]) -> threading.Thread:
        """Do `acts` one after the other once the run is paused, each after the outcome of the one before."""

        def act() -> None:
            wait_for(lambda: [each for each in self.states() if each == "paused"], "the pause")
            for each in acts:
                each()
                wait_for(lambda: len(self.outcomes()) == len(self.asked), "its outcome")

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        return thread

    def records(self, kind: type[AnyRecord]) -> list[AnyRecord]:
        reader = JournalReader(segment_path(self.folder, 0, 0))
        return [each for each in reader.read(8 << 20, ended=True) if isinstance(each, kind)]

    def outcomes(self) -> dict[str, dict[str, Any]]:
        return {str(each.id): fields_of(each) for each in self.records(OutcomeRecord)}

    def states(self) -> list[str]:
        return [each.state for each in self.records(StateRecord)]

    @property
    def only(self) -> dict[str, Any]:
        """Return the outcome of the only command."""
        (outcome,) = self.outcomes().values()
        return outcome

    def series(self, name: str = "train/loss") -> dict[int, float]:
        points = self.records(PointRecord)
        return {each.step: each.values[name] for each in points if name in each.values}

    def checkpoints(self) -> list[dict[str, Any]]:
        return [fields_of(each) for each in self.records(CheckpointRecord)]

    def checkpoint(self, index: int = -1) -> tuple[Path, str]:
        """Return folder and SHA-256 of a checkpoint, for the `start` of another attempt."""
        found = self.checkpoints()[index]
        return self.folder / found["path"], found["sha256"]


def asked(folder: Path, step: int, command: str, recipe: Steerable | None = None, **fields: Any) -> Steered:
    """Train with one command posted while `step` is computed."""
    return Steered(folder, recipe or steerable(), {step: [{"command": command, **fields}]}).train()
