"""A script that says what it is configured with, as it attaches and later, and takes --out=PATH."""

from __future__ import annotations

import argparse
import time

import steersman

parser = argparse.ArgumentParser()
parser.add_argument("--out", default="")
parser.add_argument("--lr", type=float, default=0.1)
arguments = parser.parse_args()
run = steersman.attach(**vars(arguments), layers=[64, 64], api_key="hf_abcdefghijklmnopqrstuv1234")
run.configure({"lr": 0.3, "data": {"root": arguments.out, "password": "correct-horse-battery-9"}})
run.configure("no mapping")
for step in range(1, 20):
    run.log(step, loss=1 / step)
    time.sleep(0.01)
