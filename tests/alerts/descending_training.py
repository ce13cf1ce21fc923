"""A worker without torch that fits a line by gradient descent: above a learning rate of 2 its loss explodes.

Gradients are clipped, so that the loss stays finite, and falls again once the rate is low enough.
"""

import random
import time

import steersman

CLIP = 50.0
chance = random.Random(1)
run = steersman.attach()
rate = run.knob("learning_rate", 0.1, minimum=1e-6, maximum=10.0, scale="log")
run.on("save_checkpoint", lambda arguments: None)
weight, step = 0.0, 0
while not run.stopping:
    step += 1
    # For points (±1, ±3) with noise, the loss has the curvature 1, and descent is stable below 2 / 1.
    batch = [(sign, 3.0 * sign + chance.gauss(0, 1)) for sign in (-1, 1) for _ in range(8)]
    errors = [(weight * x - y, x) for x, y in batch]
    run.log(step, **{"train/loss": sum(error * error for error, _ in errors) / (2 * len(errors))})
    gradient = sum(error * x for error, x in errors) / len(errors)
    weight -= rate.value * max(-CLIP, min(CLIP, gradient))
    time.sleep(0.002)
