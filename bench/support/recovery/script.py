"""A script of one's own with a fault: a classifier of points in 16 dimensions that a fixed network has labelled.

usage: script.py FAULT STEP PART LASTS SEED STEP_MS (FAULT "none" for none)
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.nn import functional

import steersman
from bench.support.recovery.faults import Fault, Injection
from steersman import Run

STEPS, STEPS_PER_EPOCH, BATCH = 640, 40, 64
FEATURES, CLASSES = 16, 4


def network(width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, CLASSES)
    )


def data(teacher: nn.Module, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points and their labels: float32 of shape (count, FEATURES) and int64 of shape (count,)."""
    inputs = torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return inputs, teacher(inputs).argmax(1)


def raise_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= factor


def train(run: Run, fault: Fault, seed: int, step_ms: int) -> None:
    torch.set_num_threads(1)
    teacher = network(32, 1)
    model = network(64, 2 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    objects = {"model": model, "optimizer": optimizer}
    if (found := run.newest_checkpoint()) is not None:
        found.restore(objects)
        run.begin_at(found.step, found.epoch)
    run.learning_rate_knob(optimizer)
    run.watch_layers(model, every=10)
    injection = Injection(
        fault, model, optimizer, step_s=step_ms / 1000,
        raise_rate=lambda factor: raise_rate(optimizer, factor), stop=run.request_stop,
    )  # fmt: skip
    validation = data(teacher, 2000, 3)
    run.plan(total_steps=STEPS, total_epochs=STEPS // STEPS_PER_EPOCH, steps_per_epoch=STEPS_PER_EPOCH)
    while run.step < STEPS:
        at = run.step + 1
        inputs, targets = injection.batch(*data(teacher, BATCH, 1000 * (1 + seed) + at), at - 1)
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.log(at, {"train/loss": loss.item(), "optimizer/learning_rate": optimizer.param_groups[0]["lr"]})
        if run.step == at and at % STEPS_PER_EPOCH == 0:
            with torch.no_grad():
                lost = functional.cross_entropy(model(validation[0]), validation[1]).item()
            run.log_epoch(at // STEPS_PER_EPOCH, step=at, validation_loss=lost)
            run.save_checkpoint("last", objects, epoch=at // STEPS_PER_EPOCH)
        if run.stopping:
            run.save_checkpoint("stop", objects)
            break


def main(kind: str, step: str, part: str, lasts: str, seed: str, step_ms: str) -> None:
    fault = Fault("" if kind == "none" else kind, int(step), float(part), lasts == "1")
    train(steersman.attach(), fault, int(seed), int(step_ms))


if __name__ == "__main__":
    main(*sys.argv[1:])
