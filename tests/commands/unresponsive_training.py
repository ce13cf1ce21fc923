"""A script that ignores SIGTERM and reads `run.stopping` once for each file of that name, and never otherwise."""

from __future__ import annotations

import signal
import time

import steersman

signal.signal(signal.SIGTERM, signal.SIG_IGN)
run = steersman.attach()
for step in range(1, 1_000_000):
    run.log(step, loss=1 / step)
    if (run.directory / "look").exists():
        (run.directory / "look").unlink()
        if run.stopping:
            break
    time.sleep(0.01)
