"""Faults of trainings, injected where they arise: in the data, in a gradient, in the weights, in the learning rate.

Imports torch, no Django. A training calls `Injection.batch` for each batch that it is about to train on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

NON_FINITE, RATE, CORRUPT, EXPLODING, RESTART = KINDS = (
    "non_finite", "rate", "corrupt_batches", "exploding_layer", "bad_restart",
)  # fmt: skip
RATE_FACTOR = 100.0
CORRUPT_BATCHES, CORRUPT_SCALE = 5, 100.0
# The weights of a layer grow by this factor in each of this many steps, to about 30 times their size.
GROWTH, GROWING_STEPS = 1.4, 10


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one of `KINDS`; "" is none.

    It begins with batch number `step` that the process trains on, counted from 1; `corrupt_batches` that `lasts` with
    that position in the data, so that it returns when the batches are read again. `part` is between 0 and 1 and chooses
    the layer.
    """

    kind: str = ""
    step: int = 0
    part: float = 0.0
    lasts: bool = False


class Injection:
    """Causes the fault of one training process, once.

    `before_batch`, if it is set, is called with the injection and the number of each batch before it is trained on.
    """

    before_batch: ClassVar[Callable[[Injection, int], None] | None] = None

    def __init__(
        self,
        fault: Fault,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        step_s: float,
        raise_rate: Callable[[float], object],
        stop: Callable[[], object],
    ) -> None:
        """No step is shorter than `step_s`. `raise_rate` multiplies the learning rate, `stop` ends the attempt after
        the current step."""
        self._model = model
        self._optimizer = optimizer
        self._step_s = step_s
        self._raise_rate = raise_rate
        self._stop = stop
        self._trained = 0
        self._due = 0.0
        attempt = os.environ.get("STEERSMAN_ATTEMPT_FOLDER")
        self._stops = attempt is not None and Path(attempt).name == "1"
        self._is_supervised = attempt is not None
        self.begin(fault)

    def begin(self, fault: Fault) -> None:
        """Set the fault, which has no effect before its step."""
        self._fault = fault
        # Without a supervisor the training is not interrupted: its weights become wrong where it would resume.
        self._restarts_with = fault.step + 1 if not self._is_supervised else fault.step if self._stops else 1
        layer = weights_of(self._model)[layer_at(fault.part, self._model)]
        if fault.kind == NON_FINITE:
            layer.register_hook(self._gradient)
        elif fault.kind == EXPLODING:
            self._optimizer.register_step_post_hook(lambda *_: self._grow(layer))

    def batch(self, inputs: Tensor, targets: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Return the batch to train on: the given one at `position` of the data, or a damaged one."""
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + self._step_s
        self._trained += 1
        if Injection.before_batch is not None:
            Injection.before_batch(self, self._trained)
        kind = self._fault.kind
        if kind == RESTART and self._trained == self._restarts_with:
            (self._stop if self._stops else self._misread)()
        elif kind == RATE and self._trained == self._fault.step:
            self._raise_rate(RATE_FACTOR)
        elif kind == CORRUPT:
            reached = position + 1 if self._fault.lasts else self._trained
            if 0 <= reached - self._fault.step < CORRUPT_BATCHES:
                return corrupted(inputs, targets)
        return inputs, targets

    def _gradient(self, gradient: Tensor) -> Tensor:
        return gradient * float("nan") if self._trained == self._fault.step else gradient

    def _grow(self, layer: nn.Parameter) -> None:
        if 0 <= self._trained - self._fault.step < GROWING_STEPS:
            with torch.no_grad():
                layer.mul_(GROWTH)

    def _misread(self) -> None:
        """Put the weights of every other layer in another order, as if a file was read into the wrong places."""
        order = torch.Generator().manual_seed(self._fault.step)
        with torch.no_grad():
            for weight in weights_of(self._model)[::2]:
                weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=order)].view_as(weight))


def weights_of(model: nn.Module) -> Sequence[nn.Parameter]:
    """Return the weights of the layers, without biases and norms, in the order of the model."""
    return [each for each in model.parameters() if each.dim() > 1]


def layer_at(part: float, model: nn.Module) -> int:
    return min(int(part * len(weights_of(model))), len(weights_of(model)) - 1)


def layer_name(part: float, model: nn.Module) -> str:
    """Return the name of the layer in which a fault begins, as `run.watch_layers` names it."""
    chosen = weights_of(model)[layer_at(part, model)]
    return next(name for name, each in model.named_parameters() if each is chosen).rpartition(".")[0]


def corrupted(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return a batch that means nothing: noise of a far greater scale, or of any bytes, and labels in another order."""
    chance = torch.Generator().manual_seed(1)
    noise: Any
    if inputs.is_floating_point():
        noise = torch.randn(inputs.shape, generator=chance) * CORRUPT_SCALE
    else:
        noise = torch.randint(0, 256, inputs.shape, generator=chance)
    flat = targets.flatten()
    return noise, flat[torch.randperm(len(flat), generator=chance)].view_as(targets)
