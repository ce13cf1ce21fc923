"""A worker without torch whose loss falls, explodes, and falls again; then it waits for a stop.

Before the explosion, the gradient of the second of its two layers grows.

usage: exploding_training.py GOOD BAD
"""

import random
import sys
import time

import steersman

good, bad = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(1)
run = steersman.attach()


def log(step: int, loss: float) -> None:
    run.log(step, **{"train/loss": loss})
    time.sleep(0.001)


for step in range(1, good + 1):
    if step % 20 == 0:
        head = 8.0 if step > good - 20 else 1.0
        run.log(step, {"layers/gradient/body": 2 + chance.gauss(0, 0.1), "layers/gradient/head": head})
    log(step, 2.0 / (1 + step / 100) + chance.gauss(0, 0.01))
run.alert("It explodes soon", "All values become NaN.", level="critical")
for step in range(good + 1, good + bad + 1):
    log(step, float("nan"))
step = good + bad
while not run.stopping:
    step += 1
    log(step, 0.3 + chance.gauss(0, 0.01))
