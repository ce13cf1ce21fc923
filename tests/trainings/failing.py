"""A worker without torch that continues after the last step of the previous attempt, and fails: failing.py PLAN.

PLAN lists the number of steps and the end of each attempt, such as `5:fail,3:kill,4:finish`. An attempt with the end
`turned` logs until its knob has been changed, and is then killed.
"""

import json
import os
import signal
import sys
import time

import steersman

run = steersman.attach()
assert run.folder is not None
print(*(f"{name} {os.environ.get(name)}" for name in ("DATA_SET", "OF_THE_WATCH")), sep=", ")
number = int(run.folder.name)
steps, _colon, end = sys.argv[1].split(",")[number - 1].partition(":")
place = run.folder.parent.parent / "place.json"
first = json.loads(place.read_text()) if place.exists() else 0
# With several ranks: none writes the file before all have read it.
run.agree()
rate = run.knob("rate", 0.01, minimum=1e-6, maximum=1.0)
for step in range(first + 1, first + int(steps) + 1):
    run.log(step, loss=1 / step, rate=rate.value)
# Another rank fails meanwhile, and this one may be killed while it writes.
part = place.with_name(f"{place.name}.{os.getpid()}")
part.write_text(json.dumps(first + int(steps)))
part.replace(place)
if end == "fail":
    raise RuntimeError(f"attempt {number} broke")
while end == "turned" and rate.value == 0.01 and not run.stopping:
    time.sleep(0.001)
if end in ("kill", "turned"):
    os.kill(os.getpid(), signal.SIGKILL)
if end == "wait":
    signal.pause()
if end == "bad":
    sys.exit(2)
