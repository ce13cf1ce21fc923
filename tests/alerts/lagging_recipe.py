"""A recipe in which one rank is slow before the ranks wait for one another, until SLOW_UNTIL."""

from __future__ import annotations

import time

from torch import Tensor

from trainer.recipes.digits import Digits
from trainer.worker.recipe import Batch

SLOW_RANK = 1
SLOW_S = 0.05
SLOW_UNTIL = 100


class Lagging(Digits):
    """Digits, with a rank that sleeps in its forward pass."""

    title = "Lagging"

    def build(self) -> None:
        super().build()
        self.asked = 0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.asked += 1
        if self.rank == SLOW_RANK and self.asked < SLOW_UNTIL:
            time.sleep(SLOW_S)
        return super().loss(batch)
