"""The quick recipe, and the one to copy: handwritten digits of 8×8 pixels, which train in about a second."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.recipes.datasets import load_digits
from trainer.worker.recipe import Batch, Recipe, parameter


class Digits(Recipe):
    """A small network on 1,797 handwritten digits of 8×8 pixels: trains in about a second."""

    title = "Digits, quick"
    best_metric = "validation_accuracy"
    best_is = "highest"
    threads = 1

    learning_rate: float = parameter(0.003, minimum=1e-6, maximum=1.0, help="step size of Adam", knob=True, scale="log")
    hidden: int = parameter(64, minimum=1, maximum=4096, help="width of the hidden layer")

    def build(self) -> None:
        images, labels = load_digits()
        inputs = (torch.from_numpy(images).float() / 16).flatten(1).to(self.device)
        targets = torch.from_numpy(labels).long().to(self.device)
        # The same split for every seed, so that runs can be compared.
        split = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))
        self.train_size = 1437
        training, validation = split[: self.train_size], split[self.train_size :]
        self.training = inputs[training], targets[training]
        self.validation = inputs[validation], targets[validation]
        self.model = nn.Sequential(nn.Linear(64, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10)).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        inputs, targets = self.training
        for indices in self.shuffled(epoch, first):
            yield inputs[indices], targets[indices]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, targets = batch
        logits = self.model(inputs)
        accuracy = (logits.argmax(1) == targets).float().mean()
        return functional.cross_entropy(logits, targets), {"accuracy": accuracy}

    def evaluate(self) -> dict[str, float | Tensor]:
        loss, values = self.loss(self.validation)
        return {"validation_loss": loss, "validation_accuracy": values["accuracy"]}
