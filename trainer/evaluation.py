"""Evaluating a recipe between two steps, leaving the training as it is. Knows torch and the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer import randomness
from trainer.precision import mixed_precision
from trainer.recipe import Recipe


def evaluate(recipe: Recipe, dtype: torch.dtype) -> dict[str, float]:
    """Return what the recipe's evaluation is worth; its model is left in eval mode."""
    recipe.model.eval()
    with torch.no_grad(), mixed_precision(recipe.device, dtype):
        return {name: float(value) for name, value in recipe.evaluate().items()}


def texts(recipe: Recipe, dtype: torch.dtype) -> dict[str, str]:
    """Return the texts that the recipe shows after an epoch; its model must be in eval mode."""
    with torch.no_grad(), mixed_precision(recipe.device, dtype):
        return recipe.texts()


@contextmanager
def untouched(recipe: Recipe) -> Iterator[None]:
    """Put random generators and each module's mode back afterwards, so that later steps do not notice."""
    random = randomness.capture()
    modes = [(module, module.training) for module in recipe.model.modules()]
    try:
        yield
    finally:
        # Module by module: a recipe may keep parts in eval mode while it trains.
        for module, mode in modes:
            module.training = mode
        randomness.restore(random)
