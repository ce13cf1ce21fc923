"""A training without torch that logs SERIES series, at least 16, as torch would: STEPS_PER_SECOND SECONDS SERIES.

It is not a bench. All series but one are float32, as `tensor.item()` returns them; the learning rate is a double.
"""

from __future__ import annotations

import math
import random
import struct
import sys
import time

import steersman

OTHERS = 8
rate, seconds, layers = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) - OTHERS


def item(value: float) -> float:
    """Return a number as a float32 tensor would hold it."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


run = steersman.attach()
steps = int(rate * seconds)
run.plan(total_steps=steps, total_epochs=1, steps_per_epoch=steps)
began = time.monotonic()
for step in range(1, steps + 1):
    loss = 2.3 * math.exp(-step / 400) + random.gauss(0.1, 0.01)
    values = {
        "train/loss": loss,
        "train/accuracy": random.uniform(0.6, 0.9),
        "train/perplexity": math.exp(loss),
        "optimizer/gradient_norm": random.lognormvariate(0, 0.5),
        "optimizer/update_norm": random.lognormvariate(-6, 0.5),
        "speed/samples_per_second": random.gauss(12_000, 300),
        "speed/data_wait_ms": random.lognormvariate(0, 1),
    } | {f"layers/{layer}/weight_norm": random.gauss(20 + layer, 0.1) for layer in range(layers)}
    learning_rate = 3e-4 * (1 + math.cos(math.pi * step / steps)) / 2
    run.log(step, **{name: item(value) for name, value in values.items()}, **{"optimizer/learning_rate": learning_rate})
    time.sleep(max(0.0, began + step / rate - time.monotonic()))
