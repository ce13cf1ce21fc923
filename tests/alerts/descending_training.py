"""A worker that fits a line by gradient descent: above a learning rate of 2 its loss explodes.

Gradients are clipped, so that the loss stays finite, and falls again once the rate is low enough. It saves a checkpoint
every 100 steps.
"""

import random
import time

import torch  # noqa: F401  checkpoints are written with it

import steersman

CLIP = 50.0
chance = random.Random(1)
run = steersman.attach()
rate = run.knob("learning_rate", 0.1, minimum=1e-6, maximum=10.0, scale="log")
run.on("save_checkpoint", lambda arguments: None)


class Line:
    """What a checkpoint holds."""

    weight = 0.0

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, saved):
        self.weight = saved["weight"]


line = Line()
while not run.stopping:
    step = run.step + 1
    if step % 100 == 0:
        # Under a name it stays: a person opens the link of a message later.
        run.save_checkpoint(f"before {step}", {"line": line}, step=step - 1)
    # Of points (±1, ±3) with noise: the loss has the curvature 1, and descent is stable below 2 / 1.
    batch = [(sign, 3.0 * sign + chance.gauss(0, 1)) for sign in (-1, 1) for _ in range(8)]
    errors = [(line.weight * x - y, x) for x, y in batch]
    run.log(step, **{"train/loss": sum(error * error for error, _ in errors) / (2 * len(errors))})
    gradient = sum(error * x for error, x in errors) / len(errors)
    line.weight -= rate.value * max(-CLIP, min(CLIP, gradient))
    # Detectors see at most 50 points per second: faster, they would need more than the 100 steps of a good checkpoint.
    time.sleep(0.02)
