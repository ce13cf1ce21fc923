"""Random numbers that depend on where they are used, not on what was drawn before.

The order of an epoch follows from (seed, epoch), the augmentation of a sample from (seed, epoch, index): a training
that resumes in the middle of an epoch skips the samples that it has seen without drawing for them again.
"""

from __future__ import annotations

import os
import random
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seed Python, NumPy and torch; with `deterministic`, allow only deterministic algorithms."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        # cuBLAS reads this when its first handle is created, which is after this call in the worker.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def seed_rank(seed: int, rank: int) -> None:
    """Let a rank other than 0 draw its own numbers. Call once the model, which is equal on all ranks, is built."""
    own = int(_mixed(np.array([rank], dtype=np.uint64), seed)[0] >> np.uint64(1))
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.manual_seed(own)


def epoch_order(seed: int, epoch: int, size: int) -> torch.Tensor:
    """Return the order in which an epoch visits its samples: a permutation, int64 of shape (size,)."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(epoch_seed(seed, epoch)))


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's own generators, below 2**63."""
    return int(_mixed(np.array([epoch], dtype=np.uint64), seed)[0] >> np.uint64(1))


def sample_uniform(seed: int, epoch: int, indices: torch.Tensor, draws: int) -> torch.Tensor:
    """Return `draws` numbers in [0, 1) for each sample: float64 of shape (len(indices), draws).

    They depend only on seed, epoch, sample index and column, whatever batch the sample is in.
    """
    of_epoch = int(_mixed(np.array([epoch], dtype=np.uint64), seed)[0])
    samples = _mixed(indices.cpu().numpy().astype(np.uint64), of_epoch)
    columns = np.arange(1, draws + 1, dtype=np.uint64)
    bits = _scrambled(samples[:, None] + columns[None, :] * _GOLDEN)
    # The upper 53 bits fill a float64 exactly.
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) / 2.0**53)


def capture() -> dict[str, Any]:
    """Return the state of every random generator as plain values and tensors (loadable with weights_only)."""
    numpy_state = cast(tuple[str, NDArray[np.uint32], int, int, float], np.random.get_state(legacy=True))
    numpy_name, numpy_keys, position, has_gauss, cached_gauss = numpy_state
    return {
        "python": random.getstate(),
        "numpy": [numpy_name, torch.from_numpy(numpy_keys.astype(np.int64)), position, has_gauss, cached_gauss],
        "torch": torch.get_rng_state(),
        # Only for this process's GPU: a query of the others would use memory on each.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }


def restore(state: dict[str, Any]) -> None:
    """Restore every random generator to the state that `capture` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached_gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached_gauss))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_initialized():
        for of_device in state["cuda"]:
            torch.cuda.set_rng_state(of_device)


def _mixed(values: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    # Computed with Python's integers, because NumPy would warn about the intended overflow.
    offset = np.uint64(seed * int(_GOLDEN) % 2**64)
    return _scrambled(_scrambled(values + offset) + _GOLDEN)


def _scrambled(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return splitmix64's output function of each value: every input bit affects every output bit."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
