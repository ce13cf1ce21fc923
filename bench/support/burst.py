"""A training without torch that logs RECORDS records of WIDTH random values without a pause. It is not a bench."""

from __future__ import annotations

import random
import sys

import steersman

records, width = int(sys.argv[1]), int(sys.argv[2])
names = [f"layer {number}/loss" for number in range(width)]
# Created before the loop, so that only `log` is measured.
values = [random.gauss(0.0, 1.0) for _ in range(1000 + width)]
run = steersman.attach()
for step in range(records):
    place = step % 1000
    run.log(step, **dict(zip(names, values[place : place + width], strict=True)))
