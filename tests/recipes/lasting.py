"""A recipe for the kill test: everything that could break exact resume, and checkpoints all the time."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from trainer.recipes.digits import Digits
from trainer.worker.randomness import sample_uniform
from trainer.worker.recipe import Batch, parameter

PAUSE_S = 0.002


class Samples(Dataset[Batch]):
    """Noisy digits, made by the batch."""

    def __init__(self, inputs: Tensor, targets: Tensor, seed: int, epoch: int) -> None:
        self.inputs, self.targets, self.seed, self.epoch = inputs, targets, seed, epoch

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitems__(self, chosen: list[int]) -> Batch:
        indices = torch.tensor(chosen)
        noise = sample_uniform(self.seed, self.epoch, indices, 64).float()
        return self.inputs[indices] + 0.3 * noise, self.targets[indices]


class Lasting(Digits):
    """Noisy digits, with dropout, momentum and a schedule; notes (attempt, step) of each step that was logged."""

    epochs = 100_000
    hidden = 256
    threads = 1
    dropout: float = parameter(0.3, minimum=0.0, maximum=0.9, knob=True, help="left out")
    loader_workers: int = parameter(0, minimum=0, maximum=8, help="processes that make the batches")

    def build(self) -> None:
        super().build()
        self.model = nn.Sequential(
            nn.Linear(64, self.hidden), nn.ReLU(), nn.Dropout(self.dropout), nn.Linear(self.hidden, 10)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.learning_rate)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 1_000)
        path = os.environ.get("LASTING_NOTE")
        self.note = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if path else None

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        samples = Samples(*self.training, self.seed, epoch)
        batches = self.data_loader(samples, epoch, first, workers=self.loader_workers, collate=tuple)
        for number, batch in enumerate(batches, start=first + 1):
            yield batch
            # Whoever asks for the next batch has logged the step of this one.
            if self.note is not None:
                attempt = int(Path(os.environ["STEERSMAN_ATTEMPT_FOLDER"]).name)
                os.write(self.note, struct.pack("<qq", attempt, (epoch - 1) * self.steps_per_epoch + number))
                time.sleep(PAUSE_S)
