"""Prints the UUID of torch's cuda:0 to the console."""

import sys

import torch

import steersman

run = steersman.attach()
if sys.argv[1] != "cpu":
    torch.zeros(1, device=sys.argv[1])
    print(f"UUID {torch.cuda.get_device_properties(0).uuid}")
run.log(1, loss=1.0)
