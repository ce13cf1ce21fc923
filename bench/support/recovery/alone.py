"""Trains a story without a supervisor, in this process: nothing acts on it. Imports torch, no Django."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from bench.support.recovery import script
from bench.support.recovery.faults import Fault
from steersman import Run
from trainer.worker.loop import train
from trainer.worker.randomness import seed_everything
from trainer.worker.recipe import load_recipe


class LastLoss(Run):
    """Keeps the last validation loss that is logged."""

    loss = math.inf

    def log_epoch(self, epoch: int, /, **values: Any) -> None:  # type: ignore[override]
        self.loss = float(values["validation_loss"])


def last_loss(spec: str, parameters: Mapping[str, object], fault: Fault, seed: int) -> float:
    """Return the last validation loss of a recipe, or of the script if `spec` is empty; infinity if it is no number."""
    run = LastLoss()
    torch.set_num_threads(1)
    if spec:
        seed_everything(seed, deterministic=False)
        train(load_recipe(spec)(parameters, device=torch.device("cpu"), seed=seed), run)
    else:
        script.train(run, fault, seed, 0)
    return math.inf if math.isnan(run.loss) else run.loss
