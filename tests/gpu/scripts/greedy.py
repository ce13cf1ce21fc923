"""Allocates more memory than its device has."""

import sys

import torch

import steersman

run = steersman.attach()
run.log(1, loss=1.0)
kept = []
if sys.argv[1] == "cpu":
    raise torch.OutOfMemoryError("CUDA out of memory. (rehearsed)")
while True:
    kept.append(torch.empty(1 << 30, dtype=torch.uint8, device=sys.argv[1]))
