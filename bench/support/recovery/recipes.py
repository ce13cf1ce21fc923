"""The built-in recipes with a fault, small enough to end in seconds on a CPU."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from bench.support.recovery.faults import KINDS, Fault, Injection
from trainer.recipes.digits import Digits
from trainer.recipes.mnist import Mnist
from trainer.recipes.transformer import Transformer
from trainer.worker.recipe import Batch, Recipe, parameter


def faulty(base: type[Recipe]) -> type[Recipe]:
    """Return a recipe that trains as `base` does, with a fault."""

    class Faulty(base):  # type: ignore[valid-type, misc]
        """A recipe with a fault."""

        fault: str = parameter("", choices=("", *KINDS), help="the kind of fault; empty: none")
        fault_step: int = parameter(0, minimum=0, maximum=100_000, help="the step at which it begins")
        fault_part: float = parameter(0.0, minimum=0.0, maximum=1.0, help="where in the model")
        fault_lasts: bool = parameter(False, help="whether it is in the data")
        step_ms: int = parameter(0, minimum=0, maximum=1000, help="shortest time of a step")

        def build(self) -> None:
            super().build()
            self.injection = Injection(
                Fault(self.fault, self.fault_step, self.fault_part, self.fault_lasts),
                self.model,
                self.optimizer,
                step_s=self.step_ms / 1000,
                raise_rate=lambda factor: self.set_learning_rate(self.learning_rate * factor),
                stop=lambda: os.kill(os.getpid(), signal.SIGTERM),
            )

        def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
            position = (epoch - 1) * self.steps_per_epoch + first
            for inputs, targets in super().train_batches(epoch, first):
                yield self.injection.batch(inputs, targets, position)
                position += 1

    Faulty.__name__ = Faulty.__qualname__ = f"Faulty{base.__name__}"
    return Faulty


class ShortText(Transformer):
    """Trains on the first windows of the text only, so that a small batch passes over them in few steps."""

    WINDOWS = 81 * 32
    _windows = 0

    @property
    def train_size(self) -> int:
        return self._windows

    @train_size.setter
    def train_size(self, found: int) -> None:
        self._windows = min(found, self.WINDOWS)


FaultyDigits = faulty(Digits)
FaultyMnist = faulty(Mnist)
FaultyTransformer = faulty(ShortText)
