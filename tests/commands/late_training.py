"""A script that can neither save nor evaluate at first: it registers a handler when the file of that name appears."""

from __future__ import annotations

import time

import steersman

run = steersman.attach()
for step in range(1, 1_000_000):
    if run.stopping:
        break
    run.log(step, loss=1 / step)
    for kind, command in (("save", "save_checkpoint"), ("evaluate", "evaluate")):
        if (run.directory / kind).exists():
            run.on(command, lambda arguments: "done")
            (run.directory / kind).unlink()
    time.sleep(0.01)
