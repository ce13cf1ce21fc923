"""A training without torch that prints a line for each step: FIRST STEPS CONSOLE_MB NAMES…. It is not a bench."""

from __future__ import annotations

import random
import struct
import sys

import steersman

LINE = "step {:>12}  loss {:.6f}  learning rate {:.3e}  gradient norm {:.4f}  tokens a second {:>9.1f}"
first, steps, console_mb, names = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]


def item(value: float) -> float:
    """Return a number as a float32 tensor would hold it."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


run = steersman.attach()
lines_a_step = max(1, console_mb * 1_000_000 // (100 * steps))
for step in range(first, first + steps):
    values = {name: item(random.gauss(0.0, 1.0)) for name in names}
    run.log(step, **values)
    for _ in range(lines_a_step):
        print(LINE.format(step, *list(values.values())[:3], random.gauss(9e4, 100)), flush=False)
