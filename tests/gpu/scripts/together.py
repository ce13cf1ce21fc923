"""Adds a number over all ranks at each step, with the backend of its first argument, on the device of its second."""

import os
import sys

import torch
from torch import distributed

import steersman

STEPS = 50
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
run = steersman.attach()
distributed.init_process_group(sys.argv[1])
for step in range(1, STEPS + 1):
    number = torch.tensor([float(step + run.rank)], device=sys.argv[2])
    distributed.all_reduce(number)
    run.log(step, loss=number)
distributed.destroy_process_group()
