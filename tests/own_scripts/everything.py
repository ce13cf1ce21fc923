"""A training without torch that uses every feature of the client, until it is stopped."""

import platform
import time

import steersman

run = steersman.attach()
run.plan(total_steps=100_000)
run.record_environment({"python": platform.python_version()})
rate = [0.1]
run.knob("learning_rate", 0.1, minimum=0.0, maximum=1.0, apply=lambda value: rate.__setitem__(0, value))
run.log_epoch(1, validation_loss=0.25, best=True)
run.log_text("sample", "a text")
run.note("a note")
folder = run.folder / "checkpoints" / "1"
folder.mkdir(parents=True)
(folder / "weights.bin").write_bytes(b"0")
run.record_checkpoint(folder, step=1, epoch=1, name="best", size_bytes=1, sha256="0" * 64, metrics={})
step = 0
while not run.stopping:
    step += 1
    run.step = step
    run.log(step, loss=1 / step, learning_rate=rate[0])
    time.sleep(0.02)
print("the last line")
