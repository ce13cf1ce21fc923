"""Replaces Accelerate for one process: it accumulates gradients, and saves and loads the state."""

from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch


class _Stepping:
    """An optimizer or a schedule that steps only with the last of the accumulated batches."""

    def __init__(self, accelerator, wrapped):
        self._accelerator, self._wrapped = accelerator, wrapped

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def step(self):
        if self._accelerator.sync_gradients:
            self._wrapped.step()

    def zero_grad(self):
        if self._accelerator.sync_gradients:
            self._wrapped.zero_grad()


class Accelerator:
    is_main_process = True

    def __init__(self, cpu, gradient_accumulation_steps):
        self._every, self._batches = gradient_accumulation_steps, 0
        self.sync_gradients = True

    def prepare(self, model, optimizer, loader, scheduler):
        self._saved = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        return model, _Stepping(self, optimizer), loader, _Stepping(self, scheduler)

    def skip_first_batches(self, loader, count):
        return islice(loader, count, None)

    @contextmanager
    def accumulate(self, model):
        self._batches += 1
        self.sync_gradients = self._batches % self._every == 0
        yield

    def backward(self, loss):
        (loss / self._every).backward()

    def save_state(self, folder):
        Path(folder).mkdir(exist_ok=True)
        torch.save({name: each.state_dict() for name, each in self._saved.items()}, Path(folder) / "state.pt")

    def load_state(self, folder):
        for name, state in torch.load(Path(folder) / "state.pt", weights_only=True).items():
            self._saved[name].load_state_dict(state)
