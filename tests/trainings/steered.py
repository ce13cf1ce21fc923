"""A worker without torch that declares knobs of every kind and does every command: steered.py STEPS PAUSE_S.

Its loss falls towards a floor that grows with the learning rate, so that the curve shows a change of the rate.
"""

import hashlib
import json
import random
import sys
import time
from pathlib import Path

import steersman
from steersman.commands import Done

steps, pause_s = int(sys.argv[1]), float(sys.argv[2])
run = steersman.attach()
chance = random.Random(0)
step = 0
total_epochs = steps // 100


def schedule() -> float:
    """Return the factor that multiplies the learning rate at this step."""
    return 0.5 if step > 20 else 1.0


learning_rate = run.knob(
    "learning_rate",
    0.003,
    minimum=1e-6,
    maximum=1.0,
    scale="log",
    help="size of a step",
    series="optimizer/learning_rate",
    effective=lambda: learning_rate.value * schedule(),
)
decay = run.knob("weight_decay", {"matrices": 0.01, "biases": 0.0}, minimum=0.0, maximum=0.5)
batches = run.knob("accumulate", 4, minimum=1, maximum=64, unit="batches")
mirror = run.knob("mirror", True, help="mirror every second sample")
mode = run.knob("mode", "mean", choices=("mean", "sum"))
prompt = run.knob("prompt", "Once upon", maximum=40, help="what samples begin with")


def refuse_high(value: float) -> None:
    if value > 0.9:
        raise ValueError("the loss weight would drown the rest")


weight = run.knob("loss_weight", 0.5, minimum=0.0, maximum=1.0, apply=refuse_high)


def save(arguments: dict[str, str]) -> None:
    assert run.folder is not None
    folder = run.folder / "checkpoints" / arguments["name"]
    folder.mkdir(parents=True, exist_ok=True)
    state = json.dumps({"step": step, "rate": learning_rate.value}).encode()
    (folder / "state.bin").write_bytes(state)
    manifest = json.dumps({"files": {"state.bin": hashlib.sha256(state).hexdigest()}}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    run.record_checkpoint(
        Path(folder),
        step=step,
        epoch=step // 100,
        name=arguments["name"],
        size_bytes=len(state) + len(manifest),
        sha256=hashlib.sha256(manifest).hexdigest(),
        reason="named",
        metrics={"train_loss": loss},
    )


def extend(arguments: dict[str, int]) -> Done:
    global total_epochs
    before = total_epochs
    total_epochs += arguments["epochs"]
    run.plan(total_epochs=total_epochs, total_steps=total_epochs * 100, steps_per_epoch=100)
    return Done(old=before, new=total_epochs)


run.on("save_checkpoint", save)
run.on("evaluate", lambda arguments: f"validation loss {loss * 1.1:.3f}")
run.on("extend", extend)
run.plan(total_epochs=total_epochs, total_steps=steps, steps_per_epoch=100)
loss = 2.0
while step < total_epochs * 100 and not run.stopping:
    step += 1
    floor = 0.2 + 40 * learning_rate.value
    loss += 0.03 * (floor - loss) + chance.gauss(0, 0.006)
    run.log(
        step,
        **{
            "train/loss": loss,
            "train/accuracy": 1 - loss / 3,
            "optimizer/learning_rate": learning_rate.value * schedule(),
        },
    )
    if step % 100 == 0:
        run.log_epoch(step // 100, train_loss=loss, validation_loss=loss * 1.1)
    time.sleep(pause_s)
run.finish("stopped" if run.stopping else "finished")
