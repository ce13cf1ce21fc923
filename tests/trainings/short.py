"""A short training without torch: short.py STEPS [PAUSE_S] [MODE], MODE one of log, fail, exit3, silent, deaf, leak."""

import os
import sys
import time

import steersman

steps = int(sys.argv[1])
pause_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
mode = sys.argv[3] if len(sys.argv) > 3 else "log"

if mode == "silent":
    print("no run here")
    sys.exit(0)
run = steersman.attach()
run.plan(total_steps=steps, total_epochs=1, steps_per_epoch=steps)
if mode == "leak":
    secrets = [os.environ["MY_API_TOKEN"], os.path.expanduser("~"), os.environ["STEERSMAN_DATA"], os.uname().nodename]
    print("leaking", *secrets)
    run.note("leaking " + " ".join(secrets))
    run.record_environment({"paths": secrets, "python": sys.version.split()[0]})
for step in range(1, steps + 1):
    run.log(step, loss=1 / step, nothing=float("nan"))
    if mode == "deaf":
        time.sleep(pause_s)
        continue
    if run.stopping:
        break
    time.sleep(pause_s)
print("last step", step)
run.log_epoch(1, train_loss=1 / step, validation_loss=float("inf"), validation_accuracy=0.5, best=True, perplexity=2.5)
if mode == "fail":
    raise RuntimeError("the data are gone from " + os.environ["STEERSMAN_DATA"])
if mode == "leak":
    raise RuntimeError("cannot log in with " + os.environ["MY_API_TOKEN"])
if mode == "exit3":
    print("giving up")
    sys.exit(3)
