"""Evaluating a recipe between two steps. Imports torch and the recipe; the run only waits in that time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from steersman import Run
from trainer.worker import randomness
from trainer.worker.precision import mixed_precision
from trainer.worker.recipe import Recipe

# The duration of the first evaluation is unknown; later ones may take several times as long as the longest so far.
FIRST_MAY_TAKE_S = 600.0
TIMES_LONGEST = 10


class Evaluation:
    """Evaluates the recipe of one training, and announces how long that may take without progress."""

    def __init__(self, recipe: Recipe, run: Run, dtype: torch.dtype) -> None:
        self._recipe = recipe
        self._run = run
        self._dtype = dtype
        self._longest_s: float | None = None

    def values(self) -> dict[str, float]:
        """Return the metrics of the recipe's evaluation; its model is left in eval mode."""
        known = self._longest_s
        self._run.expect_quiet(FIRST_MAY_TAKE_S if known is None else TIMES_LONGEST * known)
        began = time.perf_counter()
        self._recipe.model.eval()
        with torch.no_grad(), mixed_precision(self._recipe.device, self._dtype):
            values = {name: float(value) for name, value in self._recipe.evaluate().items()}
        self._longest_s = max(self._longest_s or 0.0, time.perf_counter() - began)
        return values

    def texts(self) -> dict[str, str]:
        """Return the texts of a recipe after an epoch; its model must be in eval mode."""
        with torch.no_grad(), mixed_precision(self._recipe.device, self._dtype):
            return self._recipe.texts()

    def values_in_passing(self) -> dict[str, float]:
        """Return the result of `values`, and restore generators and module modes, to leave later steps unaffected."""
        with untouched(self._recipe.model):
            return self.values()


@contextmanager
def untouched(model: torch.nn.Module) -> Iterator[None]:
    """Restore random generators and the mode of each module afterwards."""
    random = randomness.capture()
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        # Module by module: a recipe may keep parts in eval mode while it trains.
        for module, mode in modes:
            module.training = mode
        randomness.restore(random)
