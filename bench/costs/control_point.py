"""Compare the cost of a step boundary without commands with that of an empty Python function call.

usage: python bench/costs/control_point.py

Prints one JSON object as its last line:
vs_empty_call       time of `run.stopping` divided by that of `nothing()`, medians over separate loops
step_boundary_ns    one iteration of the loop with a step boundary, nanoseconds
empty_call_ns       one iteration of the loop with an empty call, nanoseconds
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

CALLS = 100_000
REPEATS = 101


def nothing() -> None:
    """Do nothing: the cost is that of a function call."""


def empty_calls() -> float:
    """Return nanoseconds per iteration."""
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        nothing()
    return (time.perf_counter_ns() - began) / CALLS


def step_boundaries(run: Any) -> float:
    """Return nanoseconds per iteration; every 128th reads the clock and the mailbox, as in a training."""
    began = time.perf_counter_ns()
    for _ in range(CALLS):
        if run.stopping:
            raise RuntimeError("nobody asked it to stop")
    return (time.perf_counter_ns() - began) / CALLS


def medians(*measures: Callable[[], float]) -> list[float]:
    """Return the median of each measure. They alternate, so that a machine that slows down favours none of them."""
    found: list[list[float]] = [[] for _ in measures]
    for _ in range(REPEATS):
        for values, measure in zip(found, measures, strict=True):
            values.append(measure())
    return [statistics.median(values) for values in found]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEERSMAN_ATTEMPT_FOLDER"] = folder
        import steersman

        run = steersman.attach()
        # The first calls of `log`, as in a training: they must not make the step boundary slower.
        for step in range(3):
            run.log(step, loss=0.5, accuracy=0.25)
        print(f"{REPEATS} × {CALLS} step boundaries and empty calls, in turns", file=sys.stderr)
        empty, point = medians(empty_calls, lambda: step_boundaries(run))
    print(
        json.dumps(
            {
                "vs_empty_call": round(point / empty, 2),
                "step_boundary_ns": round(point, 1),
                "empty_call_ns": round(empty, 1),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
