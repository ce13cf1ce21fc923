"""Compare the cost of `log()` with a list append, TensorBoard, and a step of the classifier.

usage: python bench/log_cost.py

Prints one JSON object as its last line:
log_us_mean, log_us_p99   `run.log(step, loss=…, accuracy=…, learning_rate=…)`, microseconds per call
vs_list_append            divided by that of a function of the same signature that appends its values to a list
vs_tensorboard            time of three `add_scalar` of TensorBoard divided by ours
step_ratio                step time of the classifier with logging divided by that without, paired blocks in one process
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from steersman import Run  # noqa: E402  needs the path

CALLS = 20_000
ROUNDS = 25
TENSORBOARD_CALLS = 3_000
BLOCK_STEPS = 8
BLOCK_PAIRS = 400


def mean_us(log: Callable[..., Any], calls: int) -> float:
    """Return the mean time of a call in microseconds, called as in a training loop."""
    loss, accuracy, learning_rate = 0.4242, 0.8765, 1e-3
    began = time.perf_counter()
    for step in range(calls):
        log(step, loss=loss, accuracy=accuracy, learning_rate=learning_rate)
    return (time.perf_counter() - began) / calls * 1e6


def p99_us(log: Callable[..., Any], calls: int) -> float:
    times = []
    for step in range(calls):
        began = time.perf_counter()
        log(step, loss=0.4242, accuracy=0.8765, learning_rate=1e-3)
        times.append(time.perf_counter() - began)
    return sorted(times)[int(calls * 0.99)] * 1e6


def list_append() -> Callable[..., None]:
    """Return a logger that keeps all its points in one list until the training ends."""
    points: list[tuple[int, float, dict[str, Any]]] = []

    def log(step: int, /, **values: Any) -> None:
        points.append((step, time.time(), values))

    return log


class Switch(Run):
    """A run that logs in some blocks of steps and not in others, and times each step."""

    def __init__(self, run: Any, order: list[bool]) -> None:
        super().__init__()
        self._run = run
        self._order = order
        self._steps = 0
        self._before = 0.0
        self.times: dict[int, list[float]] = {}

    def log(self, step: int, /, **values: Any) -> None:
        now = time.perf_counter()
        block, place = divmod(self._steps, BLOCK_STEPS)
        # In the first step of a block, the caches still hold what the block before used.
        if place > 1:
            self.times.setdefault(block, []).append(now - self._before)
        if block >= len(self._order):
            self.request_stop()
            return
        if self._order[block]:
            self._run.log(step, **values)
            self._run.stopping  # noqa: B018  the step boundary belongs to what logging costs
        self._steps += 1
        self._before = now


def step_ratio(run: Any) -> float:
    """Return the median, over pairs of neighbouring blocks, of step time with logging divided by that without."""
    import torch

    from trainer.worker.loop import train
    from trainer.worker.randomness import seed_everything
    from trainer.worker.recipe import load_recipe

    torch.set_num_threads(1)
    seed_everything(0, False)
    recipe = load_recipe("mnist")({"epochs": 1000, "save_every": 1000}, device=torch.device("cpu"), seed=0)
    # Both orders alternate, so that a machine that gets warmer or slower favours neither.
    order = list(itertools.chain.from_iterable([(True, False), (False, True)][pair % 2] for pair in range(BLOCK_PAIRS)))
    switch = Switch(run, order)
    train(recipe, switch)
    ratios = []
    for pair in range(BLOCK_PAIRS):
        blocks = {order[block]: statistics.median(switch.times[block]) for block in (2 * pair, 2 * pair + 1)}
        ratios.append(blocks[True] / blocks[False])
    return statistics.median(ratios)


def main() -> int:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEERSMAN_ATTEMPT_FOLDER"] = folder
        os.environ.setdefault("STEERSMAN_DATA", str(Path(tempfile.gettempdir()) / "steersman-bench"))
        import steersman

        run = steersman.attach()
        print("log() and a list append, in turns", file=sys.stderr)
        append = list_append()
        ours, lists = [], []
        for _ in range(ROUNDS):
            ours.append(mean_us(run.log, CALLS))
            lists.append(mean_us(append, CALLS))
        p99 = min(p99_us(run.log, CALLS) for _ in range(3))

        print("TensorBoard", file=sys.stderr)
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(os.path.join(folder, "tensorboard"))

        def tensorboard(step: int, /, **values: float) -> None:
            writer.add_scalar("loss", values["loss"], step)
            writer.add_scalar("accuracy", values["accuracy"], step)
            writer.add_scalar("learning_rate", values["learning_rate"], step)

        peer = statistics.median(mean_us(tensorboard, TENSORBOARD_CALLS) for _ in range(3))
        writer.close()

        print("the classifier with and without logging", file=sys.stderr)
        ratio = step_ratio(run)
    mean, appended = statistics.median(ours), statistics.median(lists)
    print(
        json.dumps(
            {
                "log_us_mean": round(mean, 2),
                "log_us_p99": round(p99, 2),
                "vs_list_append": round(mean / appended, 2),
                "vs_tensorboard": round(peer / mean, 1),
                "step_ratio": round(ratio, 4),
                "list_append_us": round(appended, 3),
                "tensorboard_us": round(peer, 1),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
