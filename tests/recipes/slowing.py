"""Digits whose steps take half a second after step SLOW_FROM, so that a test has a minute to end the training."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from trainer.recipes.digits import Digits
from trainer.worker.recipe import Batch

PAUSE_S = 0.5


class Slowing(Digits):
    """Digits, quick up to the step of the environment variable SLOW_FROM; quick to the end without it."""

    def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
        slow_from = os.environ.get("SLOW_FROM")
        batches = super().train_batches(epoch, first)
        for step, batch in enumerate(batches, start=(epoch - 1) * self.steps_per_epoch + first + 1):
            if slow_from is not None and step > int(slow_from):
                time.sleep(PAUSE_S)
            yield batch
