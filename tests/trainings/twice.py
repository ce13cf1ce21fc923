"""Logs each step twice, with other metrics beside the loss each time, and the last step thrice: twice.py STEPS."""

import sys

import steersman

run = steersman.attach()
for step in range(1, int(sys.argv[1]) + 1):
    run.log(step, loss=float(step))
    run.log(step, loss=step + 0.5, accuracy=0.25)
run.log(step, loss=float("nan"))
