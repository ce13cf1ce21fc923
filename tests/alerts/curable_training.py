"""A worker without torch whose loss explodes at step GOOD and stays high until its learning rate is halved.

usage: curable_training.py GOOD
"""

import random
import sys
import time

import steersman

good = int(sys.argv[1])
chance = random.Random(1)
run = steersman.attach()
rate = run.knob("learning_rate", 0.1, minimum=1e-6, maximum=1.0)
step = 0
while not run.stopping:
    step += 1
    usual = 2.0 / (1 + step / 100) + chance.gauss(0, 0.01)
    explodes = step > good and rate.value > 0.05
    run.log(step, **{"train/loss": float("nan") if explodes else usual})
    time.sleep(0.001)
