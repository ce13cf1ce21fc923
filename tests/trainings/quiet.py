"""A worker without torch that steps on request: quiet.py FILE, which contains one of step, silent, expect, end.

With `expect` it first announces that its next sign of life may take a minute.
"""

import sys
import time
from pathlib import Path

import steersman

told = Path(sys.argv[1])
run = steersman.attach()
run.on("save_checkpoint", lambda arguments: None)
step = 0
before = "step"
while (mode := told.read_text() or before) != "end":
    if mode == "expect" and before != "expect":
        run.expect_quiet(60)
    if mode == "step":
        step += 1
        run.log(step, loss=1 / step)
        if run.stopping:
            break
    before = mode
    time.sleep(0.01)
