"""A worker of several gloo ranks that notes the effect of each command, and its step boundary.

usage: gloo.py NOTES PAUSE_S. Writes one JSON object per line into NOTES-<rank>. Every step is a collective, and so is
"evaluate": if one rank waited while another waits for it, all would hang.
"""

import json
import os
import random
import signal
import sys
import time
from datetime import timedelta

import torch
from torch import distributed

import steersman

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
torch.set_num_threads(1)
run = steersman.attach()
notes = os.open(f"{sys.argv[1]}-{run.rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
pause_s = float(sys.argv[2])
signal.signal(signal.SIGTERM, lambda *_: run.request_stop())
distributed.init_process_group("gloo", timeout=timedelta(minutes=10))
rng = random.Random(run.rank)
step = 0


def note(what, value):
    line = json.dumps({"point": run._boundary, "step": step, "what": what, "value": value})
    os.write(notes, line.encode() + b"\n")


def fragile(value):
    """Refuses 13 on the last rank only."""
    if value == 13 and run.rank == run.ranks - 1:
        raise ValueError("thirteen")
    note("layers", value)


def evaluate(arguments):
    total = torch.tensor([float(run.rank)])
    distributed.all_reduce(total)
    note("evaluate", total.item())


run.on("evaluate", evaluate)
run.on("save_checkpoint", lambda arguments: note("save_checkpoint", arguments["name"]))
run.knob("rate", 0.5, minimum=0.0, maximum=1.0, apply=lambda value: note("rate", value))
run.knob("layers", 2, minimum=1, maximum=20, apply=fragile)
run.knob("mode", "slow", choices=("slow", "fast"), apply=lambda value: note("mode", value))
while not run.stopping:
    step += 1
    value = torch.tensor([float(step + run.rank)])
    distributed.all_reduce(value)
    time.sleep(rng.random() * pause_s)
    run.log(step, loss=float(step + run.rank), **{"speed/samples_per_second": 1.0})
    if step % 20 == 0:
        run.log_epoch(step // 20, train_loss=0.0)
note("stop", None)
distributed.destroy_process_group()
