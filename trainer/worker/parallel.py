"""Several ranks that train one model: DistributedDataParallel in the step, the plain model everywhere else.

Each rank takes its shard of every batch and weights its loss by the shard's size, so that a step equals one on the
whole batch. Imports torch and the recipe.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from trainer.worker.progress import TrainingProgress
from trainer.worker.recipe import Recipe

# Ranks that wait for rank 0 to evaluate must not time out; the supervisor notices if a rank dies.
COLLECTIVE_TIMEOUT = timedelta(hours=24)


@contextmanager
def process_group(ranks: int, device: torch.device) -> Iterator[None]:
    """Set up the process group of the ranks: NCCL on GPUs, gloo on CPUs."""
    if ranks == 1:
        yield
        return
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE") and sys.platform == "linux":
        # All ranks are on this host, whose name may not be resolvable.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if device.type == "cuda":
        distributed.init_process_group("nccl", timeout=COLLECTIVE_TIMEOUT, device_id=device)
    else:
        distributed.init_process_group("gloo", timeout=COLLECTIVE_TIMEOUT)
    yield
    # Not after an exception, because the other ranks may never arrive.
    distributed.destroy_process_group()


class Ranks:
    """The loop's interface to several ranks; with one rank, it changes nothing."""

    def __init__(self, recipe: Recipe) -> None:
        """The recipe must be built and, if it resumes from a checkpoint, restored."""
        self._recipe = recipe
        self._module = recipe.model
        self._together: torch.nn.Module = recipe.model
        # Rank 0 broadcasts buffers when the forward pass begins, and a waiting GPU delays further requests: the wait
        # for another rank may then come before the gradients.
        self.forward_is_own = recipe.device.type == "cpu" and not any(True for _ in recipe.model.buffers())
        if recipe.ranks > 1:
            devices = [recipe.device] if recipe.device.type == "cuda" else None
            self._together = DistributedDataParallel(recipe.model, device_ids=devices)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let the forward pass use the wrapper that averages the gradients over ranks."""
        self._recipe.model = self._together
        try:
            yield
        finally:
            self._recipe.model = self._module

    def shard(self, batch: int, samples: int) -> tuple[int, float]:
        """Return the number of samples of batch number `batch` on this rank, and the weight of its mean in the average.

        `samples` is the number that it was given: at least one, even if its shard is empty.
        """
        recipe = self._recipe
        if recipe.ranks == 1:
            return samples, 1.0
        total = min(recipe.batch_size, recipe.train_size - batch * recipe.batch_size)
        own = len(range(recipe.rank, total, recipe.ranks))
        return own, own * recipe.ranks / total

    def of_epoch(self, progress: TrainingProgress) -> tuple[dict[str, Tensor], int]:
        """Return means and number of samples of the epoch so far, over all ranks."""
        if self._recipe.ranks == 1:
            return progress.means, progress.samples
        names = list(progress.sums)
        totals = torch.stack([progress.sums[name] for name in names] + [self._number(progress.samples)])
        distributed.all_reduce(totals)
        samples = int(totals[-1].item())
        return {name: totals[index] / samples for index, name in enumerate(names)}, samples

    def agree_on_best(self, best: bool, progress: TrainingProgress) -> bool:
        """Return rank 0's result, as only rank 0 evaluates; all ranks remember the best value."""
        if self._recipe.ranks == 1:
            return best
        found = torch.stack(
            [self._number(best), self._number(float("nan") if progress.best is None else progress.best)]
        )
        distributed.broadcast(found, 0)
        value = found[1].item()
        progress.best = None if value != value else value
        return bool(found[0].item())

    def _number(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self._recipe.device)
