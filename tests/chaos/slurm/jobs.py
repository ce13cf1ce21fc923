"""The jobs: what Slurm does to each kind, and what has to be recorded of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

# Torch only for the checkpoints. What was logged is a line of a file, by the number of the start of the job.
TRAINING = """
import os, sys, time
import steersman, torch

name, turn = sys.argv[1], os.environ.get("SLURM_RESTART_COUNT", "0")
run = steersman.attach()
checkpoint = run.newest_checkpoint()
step = checkpoint.step if checkpoint else 0
run.begin_at(step)
logged = open(f"{name}.logged", "a", buffering=1)
while not run.stopping and not os.path.exists(f"{name}.enough"):
    step += 1
    run.log(step, loss=1.0 / step)
    if run.rank == 0:
        logged.write(f"{turn} {step}\\n")
    if step % 10 == 0:
        run.save_checkpoint("last", {"step": step}, step=step)
    time.sleep(0.02)
if run.stopping:
    run.save_checkpoint("stop", {"step": step}, step=step)
"""
KINDS = ("requeue", "preempt", "cancel", "finish", "kill", "time")
# How the first start of a job of each kind ends: the outcome, and the reason.
FIRST_END = {
    "requeue": ("stopped", "Slurm: the job was requeued."),
    "preempt": ("stopped", "Slurm: preempted by a job of higher priority."),
    "cancel": ("stopped", "Slurm: the job was cancelled."),
    "finish": ("finished", ""),
    "time": ("stopped", "Slurm: out of time."),
}
CONTINUED = ("requeue", "preempt")


@dataclass(slots=True)
class Job:
    """A job of Slurm with number `number`, which trains the run `name`."""

    name: str
    kind: str
    number: int = 0
    run_id: int = 0

    @property
    def script(self) -> str:
        """Return its batch script. A requeued job trains with two tasks, which are two ranks of one run."""
        tasks = 2 if self.kind == "requeue" else 1
        train = f"steersman run --name {self.name} -- {sys.executable} train.py {self.name}"
        # In a batch script, `exec` lets the signals of Slurm reach it.
        return f"#!/bin/sh\nexec {train}\n" if self.kind == "cancel" else f"#!/bin/sh\nsrun --ntasks={tasks} {train}\n"

    @property
    def options(self) -> list[str]:
        tasks = 2 if self.kind == "requeue" else 1
        return [f"--ntasks={tasks}", "--requeue", *(["--time=1"] if self.kind == "time" else [])]
