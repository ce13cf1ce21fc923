"""A script without torch that saves every 20 steps and resumes from its newest checkpoint: STEPS PAUSE_S."""

import json
import sys
import time
from pathlib import Path

import steersman
from steersman.files.checkpoint import Manifest, write_hashed, write_manifest

steps, pause_s = int(sys.argv[1]), float(sys.argv[2])
run = steersman.attach()
assert run.folder is not None
saved = sorted(run.folder.parent.glob("*/checkpoints/*/manifest.json"), key=lambda path: path.parent.name)
first = int(json.loads(saved[-1].read_text())["step"]) if saved else 0


def save(step: int, name: str) -> None:
    folder: Path = run.folder / "checkpoints" / f"step-{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    files = {"state.bin": write_hashed(folder / "state.bin", lambda file: file.write(str(step).encode()))}
    written = write_manifest(folder, Manifest(step=step, epoch=0, name=name, reason="named", files=files))
    run.record_checkpoint(
        folder, step=step, epoch=0, name=name, size_bytes=written.size_bytes, sha256=written.sha256, reason="named"
    )


for step in range(first + 1, steps + 1):
    run.log(step, loss=1 / step)
    if step % 20 == 0:
        save(step, f"at {step}")
        run.log_epoch(step // 20, train_loss=1 / step)
    if run.stopping:
        break
    time.sleep(pause_s)
