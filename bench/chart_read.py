"""Measure the time to read a chart of 1,000 pixels with 10⁴, 10⁶ and 10⁸ points from the database, without HTTP.

usage: python bench/chart_read.py [--without-tensorboard]

Prints one JSON object of medians as its last line:
ms_1e4, ms_1e6, ms_1e8  milliseconds to read the chart in the form that the portal sends
ratio_1e8_1e4           the longest time divided by the shortest
vs_tensorboard_1e6      time of TensorBoard's loader for an event file of the same 10⁶ points, divided by ms_1e6
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.stack import Stack, create_run, seed_stack  # noqa: E402  needs the path

PIXELS = 1000
ROUNDS = 41
STORED_AT_ONCE = 4_000_000
FIRST_MS = 1_700_000_000_000
SIZES = {"1e4": 10**4, "1e6": 10**6, "1e8": 10**8}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parts(number: int) -> Any:
    """Yield `number` points of a noisy curve, in blocks of some millions."""
    import numpy as np

    from runs.series.packing.chunks import Points

    generator = np.random.default_rng(0)
    for first in range(0, number, STORED_AT_ONCE):
        steps = np.arange(first, min(number, first + STORED_AT_ONCE), dtype=np.int64)
        values = (np.exp(-steps / number) + 0.1 * generator.standard_normal(len(steps))).astype(np.float32)
        yield Points(steps, FIRST_MS + 10 * steps, values.astype(np.float64))


def median_ms(read: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        read()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def read_ms(run_id: int) -> float:
    from runs.series.charts import charts

    def read() -> None:
        _, found = charts(run_id, ["train/loss"], PIXELS)
        assert found["train/loss"]["count"]

    read()
    return median_ms(read)


def tensorboard_ms(number: int) -> float:
    """Return the time that TensorBoard's own loader takes for an event file of `number` points."""
    warnings.simplefilter("ignore")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        for points in parts(number):
            for step, value in zip(points.steps.tolist(), points.values.tolist(), strict=True):
                writer.add_scalar("train/loss", value, step)
        writer.close()
        return median_ms(lambda: EventAccumulator(folder, {"scalars": PIXELS}).Reload(), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-tensorboard", action="store_true")
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    with Stack() as stack:
        seed_stack(stack)
        stack.use()
        from runs.series.storage import store_points

        for name, number in SIZES.items():
            say(f"{number} points")
            run_id = create_run(stack, name)
            for points in parts(number):
                store_points(run_id, {(1, 0, "train/loss"): points})
            found[f"ms_{name}"] = round(read_ms(run_id), 2)
    found["ratio_1e8_1e4"] = round(found["ms_1e8"] / found["ms_1e4"], 2)
    if not arguments.without_tensorboard:
        say("TensorBoard")
        found["vs_tensorboard_1e6"] = round(tensorboard_ms(SIZES["1e6"]) / found["ms_1e6"], 1)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
