"""A script that saves a model every 10 steps, writes additional files, and resumes. Arguments: steps, crash at step."""

from __future__ import annotations

import hashlib
import json
import sys

import torch

import steersman

steps, crash_at = int(sys.argv[1]), int(sys.argv[2])
run = steersman.attach()
model = torch.nn.Linear(1, 1, bias=False)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
told = run.directory / "told.jsonl"
first = 0
if (found := run.newest_checkpoint()) is not None:
    found.restore({"model": model, "optimizer": optimizer})
    first = found.load("place")["step"]
    run.begin_at(first)
with told.open("a") as file:
    line = {"attempt": run.attempt, "resumed": run.resumed, "first": first, "weight": model.weight.item()}
    file.write(json.dumps(line) + "\n")
for step in range(first + 1, steps + 1):
    with torch.no_grad():
        model.weight.fill_(float(step))
    run.log(step, loss=1 / step)
    if step % 10 == 0:
        run.save_checkpoint("last", {"model": model, "optimizer": optimizer, "place": {"step": step}}, step=step)
        assert run.folder is not None
        own = run.folder / "checkpoints" / f"mine-{step}"
        own.mkdir(parents=True)
        (own / "weights.bin").write_bytes(b"weights of this step")
        sha256 = hashlib.sha256(b"weights of this step").hexdigest()
        run.record_checkpoint(own, step=step, epoch=0, name=f"mine-{step}", size_bytes=20, sha256=sha256)
    if step == crash_at:
        raise RuntimeError("out of patience")
    if run.stopping:
        break
