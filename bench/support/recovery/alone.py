"""Trains stories without a supervisor: nothing acts on them. Imports torch, no Django.

Before its fault, a training is the same whatever the fault will be. It is therefore trained once, and continues in a
fork where each of its faults begins.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.support.recovery import script
from bench.support.recovery.faults import Fault, Injection
from steersman import Run
from trainer.worker.loop import train
from trainer.worker.randomness import seed_everything
from trainer.worker.recipe import load_recipe


class LastLoss(Run):
    """Keeps the last validation loss that is logged."""

    loss = math.inf

    def log_epoch(self, epoch: int, /, **values: Any) -> None:  # type: ignore[override]
        self.loss = float(values["validation_loss"])


class AllFaultsBegan(Exception):
    """Ends the training without a fault, because nothing more is needed of it."""


class Branches:
    """Lets each of several faults begin in a fork of one training, one after another."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._waiting = sorted(faults, key=lambda fault: fault.step)
        self.losses: dict[Fault, float] = {}
        # In a fork: where to write its loss.
        self.result: int | None = None

    def begin_faults(self, injection: Injection, batch: int) -> None:
        """Fork for each fault that begins with this batch, and wait for its loss. Call before each batch."""
        while self._waiting and self._waiting[0].step == batch:
            fault = self._waiting.pop(0)
            reads, writes = os.pipe()
            child = os.fork()
            if child == 0:
                self.result, self._waiting = writes, []
                Injection.before_batch = None
                injection.begin(fault)
                return
            os.close(writes)
            with open(reads) as result:
                found = result.read()
            os.waitpid(child, 0)
            if not found:
                raise RuntimeError(f"the training with {fault} failed; see above")
            self.losses[fault] = float(found)
        if not self._waiting:
            raise AllFaultsBegan


def last_losses(spec: str, parameters: Mapping[str, object], faults: Sequence[Fault], seed: int) -> list[float]:
    """Return the last validation loss of a recipe, or of the script if `spec` is empty, with each of the faults.

    A loss that is no number is infinity. `parameters` are those without a fault. The caller must have one thread only.
    """
    branches = Branches(faults)
    Injection.before_batch = branches.begin_faults
    try:
        loss = last_loss(LastLoss(), spec, parameters, seed)
    except AllFaultsBegan:
        return [branches.losses[fault] for fault in faults]
    except BaseException:
        if branches.result is None:
            raise
        traceback.print_exc()
        os._exit(1)
    if branches.result is None:
        raise RuntimeError("the training ended before its faults began")
    os.write(branches.result, repr(loss).encode())
    os._exit(0)


def last_loss(run: LastLoss, spec: str, parameters: Mapping[str, object], seed: int) -> float:
    """Train a recipe, or the script if `spec` is empty; return the last validation loss, infinity if it is no number.

    Faults begin by `Injection.before_batch`.
    """
    torch.set_num_threads(1)
    if spec:
        seed_everything(seed, deterministic=False)
        train(load_recipe(spec)(parameters, device=torch.device("cpu"), seed=seed), run)
    else:
        script.train(run, Fault(), seed, 0)
    return math.inf if math.isnan(run.loss) else run.loss
