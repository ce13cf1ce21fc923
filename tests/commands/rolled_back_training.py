"""A script that saves two objects every 10 steps through the run, and reads from `run.step` where to continue.

It trains up to the step that the file `go` in its folder contains.
"""

from __future__ import annotations

import time

import torch

import steersman

run = steersman.attach()
model = torch.nn.Linear(1, 1, bias=False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
go = run.directory / "go"
if (found := run.newest_checkpoint()) is not None:
    found.restore({"model": model, "optimizer": optimizer})
    run.begin_at(found.step, found.epoch)
    run.note(f"resumed at {found.step} with {model.weight.item():g}")
else:
    with torch.no_grad():
        model.weight.fill_(0.0)
rate = run.learning_rate_knob(optimizer)
while not run.stopping:
    if run.step >= int(go.read_text() if go.exists() else 0):
        time.sleep(0.01)
        continue
    step = run.step + 1
    with torch.no_grad():
        model.weight.add_(optimizer.param_groups[0]["lr"])
    run.log(step, weight=model.weight.item(), rate=optimizer.param_groups[0]["lr"])
    if step % 10 == 0:
        run.log_epoch(step // 10, validation_loss=1 / step, best=step in (10, 30))
        run.save_checkpoint("last", {"model": model, "optimizer": optimizer}, epoch=step // 10)
    if step == 15:
        run.save_checkpoint("middle", {"model": model, "optimizer": optimizer}, epoch=1)
