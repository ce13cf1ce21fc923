"""Loads batches in worker processes, so that a training can resume at any batch. Imports only torch.

Creating an iterator of a DataLoader draws a seed, by default from the same generator as the model; and skipping batches
does not repeat the random numbers that worker processes drew for them. Therefore each epoch has its own generator,
batches are chosen before they are loaded, and randomness in a sample must follow from (seed, epoch, index): see
`trainer.worker.randomness`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def loaded(
    dataset: Dataset[Any],
    batches: Sequence[list[int]],
    *,
    seed: int,
    workers: int = 0,
    collate: Callable[[list[Any]], Any] | None = None,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yield a batch for each list of indices in `batches`, loaded by `workers` processes (0: by this one).

    `seed` seeds the generators of the worker processes, which are not part of a checkpoint.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=leave_signals_to_the_training,
        generator=torch.Generator().manual_seed(seed),
    )
    # Blocked until the workers ignore them: a signal right after the start must not kill a worker.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_the_training(worker: int) -> None:
    """Ignore signals to stop or save a training: they reach all processes of a group, and the training decides."""
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING_SIGNALS)
