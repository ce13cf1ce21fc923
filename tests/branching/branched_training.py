"""A script that adds its knob `rate` to a weight 40 times and saves every 10 steps, but ends after step 25 at first.

Its last checkpoint is therefore that of step 20, with a knob that may have been changed before. Argument: steps.
"""

from __future__ import annotations

import sys

import torch

import steersman

run = steersman.attach()
rate = run.knob("rate", 1.0, minimum=0.0, maximum=100.0)
momentum = run.knob("momentum", 0.5, minimum=0.0, maximum=1.0)
model = torch.nn.Linear(1, 1, bias=False)
with torch.no_grad():
    model.weight.zero_()
objects = {"model": model}
if (checkpoint := run.newest_checkpoint()) is not None:
    checkpoint.restore(objects)
    run.begin_at(checkpoint.step, checkpoint.epoch)
while run.step < int(sys.argv[1]) and not run.stopping:
    with torch.no_grad():
        model.weight += rate.value
    run.log(run.step + 1, weight=model.weight.item(), momentum=momentum.value)
    if run.step % 10 == 0:
        run.save_checkpoint("last", objects, epoch=run.step // 10)
