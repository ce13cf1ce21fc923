"""One rank of a script without torch: logs until it is stopped, or to its end. usage: ranked.py STEPS PAUSE_S [FAILS]

Rank FAILS raises at step 5. The logged values identify the rank: rank + step, and 1 a second.
"""

import signal
import sys
import time
import warnings

import steersman

steps, pause_s = int(sys.argv[1]), float(sys.argv[2])
fails = int(sys.argv[3]) if len(sys.argv) > 3 else -1
run = steersman.attach()
signal.signal(signal.SIGTERM, lambda *_: run.request_stop())
print(f"rank {run.rank} of {run.ranks}")
# As `import torch` does if the package pynvml is installed.
warnings.warn("The pynvml package is deprecated.", FutureWarning, stacklevel=1)
run.note(f"here is {run.rank}")
# All ranks begin together, as in trainings with collectives, so that none is late.
run.agree()
for step in range(1, steps + 1):
    run.log(step, loss=float(step + run.rank), **{"speed/samples_per_second": 1.0, "speed/step_ms": float(run.rank)})
    if run.stopping:
        break
    if fails >= 0 and step == 5:
        run.agree()
    if run.rank == fails and step == 5:
        raise ValueError("no more of this")
    time.sleep(pause_s)
