"""The precision in which a model computes. Imports torch and the recipe."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from trainer.worker.recipe import Recipe


def precision_of(recipe: Recipe) -> torch.dtype:
    """Return the precision of the forward pass. By default, a GPU uses bfloat16 if it supports it."""
    if recipe.precision != "auto":
        chosen: torch.dtype = getattr(torch, recipe.precision)
        return chosen
    if recipe.device.type != "cuda":
        return torch.float32
    # Emulated bfloat16 is slower than float32; such GPUs use float16, which needs the scaler.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def mixed_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)
