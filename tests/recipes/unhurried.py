"""The image recipe with pauses, so that it runs for minutes without using the core of the watching process."""

from __future__ import annotations

import time
from collections.abc import Iterator

from trainer.recipes.mnist import Mnist
from trainer.worker.recipe import Batch, parameter

PAUSE_S = 0.2


class Unhurried(Mnist):
    """MNIST digits, a few steps a second."""

    epochs = 1_000
    width = 4
    motto: str = parameter("slow and steady", maximum=20, knob=True, help="what it goes by")

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        for batch in super().train_batches(epoch, first):
            time.sleep(PAUSE_S)
            yield batch
