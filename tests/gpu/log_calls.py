"""`log()` of values on the GPU: it must neither wait for the device nor lose a value. Measures its cost per step.

Prints: log_syncs (waits for the device that torch saw in `log()`; must be 0), log_points, log_differing (values that
differ from those that the loop computed; must be 0), step_ratio (step time with logging divided by that without, paired
blocks of steps).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from steersman.files.journal import JournalReader, segment_path
from steersman.records.kinds import PointRecord
from steersman.run import Run
from tests.gpu.arguments import device_of, median, show

STEPS = 300
BLOCK_STEPS = 20
BLOCK_PAIRS = 60
WIDTH = 2048


class Loop:
    """A small training on one device, whose steps do not wait for the device."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        width = WIDTH if device.type == "cuda" else 64
        torch.set_num_threads(1)
        layers = [torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, width)]
        self.device = device
        self.model = torch.nn.Sequential(*layers).to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        self.batch = torch.randn(512, width, device=device)

    def step(self) -> torch.Tensor:
        """Train one step and return the loss, a tensor of the device."""
        loss = self.model(self.batch).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def count_syncs(loop: Loop, run: Run) -> tuple[int, list[torch.Tensor]]:
    """Return how often `log()` waited for the device in `STEPS` steps, and the losses of the steps."""
    losses, syncs = [], 0
    for step in range(1, STEPS + 1):
        loss = loop.step()
        losses.append(loss.clone())
        if loop.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            run.log(step, loss=loss, half=loss.half(), count=torch.ones(1, device=loop.device))
        except RuntimeError as error:
            syncs += 1
            print(f"step {step}: {error}", file=sys.stderr)
        finally:
            if loop.device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    return syncs, losses


def step_ratio(loop: Loop, run: Run) -> float:
    """Return the median, over pairs of neighbouring blocks, of the block time with logging divided by that without."""
    ratios, at = [], STEPS
    for pair in range(BLOCK_PAIRS):
        took: dict[bool, float] = {}
        # Both orders alternate, so that a GPU that gets warmer favours neither.
        for logs in (True, False) if pair % 2 else (False, True):
            loop.wait()
            began = time.perf_counter()
            for _ in range(BLOCK_STEPS):
                loss = loop.step()
                if logs:
                    at += 1
                    run.log(at, loss=loss)
            loop.wait()
            took[logs] = time.perf_counter() - began
        ratios.append(took[True] / took[False])
    return median(ratios)


def main() -> int:
    device = torch.device(device_of(__doc__))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEERSMAN_ATTEMPT_FOLDER"] = folder
        import steersman

        run = steersman.attach()
        loop = Loop(device)
        for _ in range(10):
            loop.step()
        syncs, losses = count_syncs(loop, run)
        ratio = step_ratio(loop, run)
        run.finish()
        records = JournalReader(segment_path(Path(folder), 0, 0)).read(64 << 20, ended=True)
        logged = {each.step: each.values for each in records if isinstance(each, PointRecord)}
        differing = sum(
            logged.get(step, {}).get("loss") != loss.item()
            or logged[step].get("half") != loss.half().item()
            or logged[step].get("count") != 1.0
            for step, loss in enumerate(losses, 1)
        )
    show({"log_syncs": syncs, "log_points": len(logged), "log_differing": differing, "step_ratio": round(ratio, 4)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
