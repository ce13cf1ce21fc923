"""A short training without torch: short.py STEPS [PAUSE_S] [MODE].

MODE is one of log, fail, exit3, silent, deaf, leak, alarmed, bar.
"""

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
    run.alert("leaking " + " ".join(secrets), " ".join(secrets), level="critical")
    run.record_environment({"paths": secrets, "python": sys.version.split()[0]} | dict.fromkeys(secrets, "named"))
    assert run.folder is not None
    for number, secret in enumerate(secrets):
        run.log(0, **{f"norm {secret}": 0.5})
        run.log(0, **{f"norm {secret}": float("nan"), f"{secret}/loss": 0.5})
        run.log_epoch(-number, **{f"metric {secret}": 0.5, f"bad {secret}": float("nan")}, best=True)
        run.log_text(f"sample {secret}", secret)
        run.knob(f"knob {number}", 0.5, help=secret, unit=secret, series=f"norm {secret}")
        folder = run.folder / "checkpoints" / str(number)
        metrics = {f"metric {secret}": 0.5}
        run.record_checkpoint(
            folder, step=0, epoch=0, name=f"best {secret}", size_bytes=1, sha256="0" * 64, metrics=metrics
        )
for step in range(1, steps + 1):
    run.log(step, loss=1 / step, nothing=float("nan"))
    if mode == "alarmed":
        run.alert(f"Alert {step}")
    if mode == "bar":
        print(f"\r{step} of {steps}", end="")
    if mode == "deaf":
        time.sleep(pause_s)
        continue
    if run.stopping:
        break
    time.sleep(pause_s)
if mode == "bar":
    print()
print("✓ last step", step)
run.log_epoch(1, train_loss=1 / step, validation_loss=float("inf"), validation_accuracy=0.5, best=True, perplexity=2.5)
if mode == "fail":
    raise RuntimeError("the data are gone from " + os.environ["STEERSMAN_DATA"])
if mode == "leak":
    raise RuntimeError("cannot log in with " + " ".join(secrets))
if mode == "exit3":
    print("giving up")
    sys.exit(3)
