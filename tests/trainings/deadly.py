"""A worker that logs a text between points, then continues until it is stopped: see `dying_supervisor`."""

import time

import steersman

run = steersman.attach()
for step in range(1, 200_000):
    run.log(step, loss=1 / step)
    if step == 50:
        run.log_text("deadly", "what the supervisor dies of")
    if run.stopping:
        break
    time.sleep(0.01)
