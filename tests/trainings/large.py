"""A training that logs much at once: large.py FILE SERIES STEPS BYTES..., with so many bytes of console after each
step.

Once everything is logged it writes FILE, and steps on until it is stopped.
"""

import json
import sys
import time
from pathlib import Path

import steersman

told = Path(sys.argv[1])
series, steps = int(sys.argv[2]), int(sys.argv[3])
bursts = [int(size) for size in sys.argv[4:]]
# The largest number of names in a record.
AT_ONCE = 2000

run = steersman.attach()
run.plan(total_steps=steps)
names = [f"layer/{number:04d}/norm" for number in range(series)]
printed = 0
for step in range(1, steps + 1):
    for start in range(0, series, AT_ONCE):
        run.log(step, **dict.fromkeys(names[start : start + AT_ONCE], step / 2))
    if step <= len(bursts):
        line = "层 " * 20 + "x" * 40
        count = bursts[step - 1] // (len(line.encode()) + 1) + 1
        text = "".join(f"{line}\n" for _ in range(count))
        sys.stdout.write(text)
        sys.stdout.flush()
        printed += len(text.encode())
run.log_epoch(1, **{f"column_{number}": number / 2 for number in range(series)})
# Write atomically, because the waiting program reads the file at once.
written = told.with_suffix(".new")
written.write_text(json.dumps({"printed": printed}))
written.replace(told)
while not run.stopping:
    steps += 1
    run.log(steps, loss=1 / steps)
    time.sleep(0.05)
