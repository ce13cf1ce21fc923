"""Logs which GPU torch has as cuda:0, by its UUID, in the console."""

import sys

import torch

import steersman

run = steersman.attach()
if sys.argv[1] != "cpu":
    torch.zeros(1, device=sys.argv[1])
    print(f"UUID {torch.cuda.get_device_properties(0).uuid}")
run.log(1, loss=1.0)
