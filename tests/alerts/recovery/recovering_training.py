"""A worker whose loss is not finite from step FAULT on while its learning rate is above 0.05.

usage: recovering_training.py FAULT. It saves a checkpoint every 100 steps.
"""

import random
import sys
import time

import torch  # noqa: F401  checkpoints are written with it

import steersman

fault = int(sys.argv[1])


class State:
    """The content of a checkpoint."""

    step = 0

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, saved):
        self.step = saved["step"]


chance = random.Random(1)
state = State()
run = steersman.attach()
rate = run.knob("learning_rate", 0.1, minimum=1e-6, maximum=1.0)
while not run.stopping:
    state.step += 1
    explodes = state.step > fault and rate.value > 0.05
    run.log(
        state.step, **{"train/loss": float("nan") if explodes else 2 / (1 + state.step / 100) + chance.gauss(0, 0.01)}
    )
    if state.step % 100 == 0:
        run.save_checkpoint(f"at {state.step}", {"state": state})
    time.sleep(0.002)
