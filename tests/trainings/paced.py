"""A worker without torch that logs at a steady rate: paced.py POINTS_PER_SECOND SECONDS.

Each point contains the time at which `log()` was called, in seconds since the epoch.
"""

import sys
import time

import steersman

rate, seconds = float(sys.argv[1]), float(sys.argv[2])
run = steersman.attach()
start = time.monotonic()
for step in range(1, int(rate * seconds) + 1):
    time.sleep(max(0.0, start + step / rate - time.monotonic()))
    run.log(step, called_at=time.time(), loss=1 / step, accuracy=1 - 1 / step)
    if run.stopping:
        break
