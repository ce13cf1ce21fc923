"""Measure the space that a run of 30 days takes: 10 steps per second, much console output, and an epoch per hour.

usage: python bench/growth.py [--days 30]

Stores the points of the first days as a supervisor packs them, without waiting; then a script with a supervisor runs at
full speed and prints enough for its console to pass its bounds. Prints one JSON object as its last line:
database_mb        size of the SQLite file after VACUUM
files_mb           folder of the run on the training host, without checkpoints
supervisor_rss_mb  memory of the supervisor at the end; supervisor_peak_rss_mb is its highest
run_page_ms        median time of 20 loads of the run's page with its history and console
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.store import database_bytes  # noqa: E402  needs the path
from bench.support.browsing import logged_in  # noqa: E402
from bench.support.processes import peak_rss_mb, rss_mb  # noqa: E402
from tests.support.stack import ROOT, Stack, create_run, seed_stack, wait_for  # noqa: E402

WORKER = ROOT / "bench" / "support" / "chatty.py"
STEPS_PER_S = 10
# Loss, learning rate and gradient norm of each step.
NAMES = ("train/loss", "optimizer/learning_rate", "optimizer/gradient_norm")
LIVE_STEPS = 60_000
# More than both bounds of the console allow.
CONSOLE_MB = 400
DAY_STEPS = 24 * 3600 * STEPS_PER_S
PAGES = 20
FIRST_MS = 1_700_000_000_000


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def store_days(run_id: int, days: int) -> None:
    """Store the points of `days` days of training, and one sample of the machine per second."""
    import numpy as np
    from django.utils import timezone

    from runs.models import EpochMetric
    from runs.series.packing.chunks import Points
    from runs.series.storage import store_points

    generator = np.random.default_rng(0)
    samples = [f"gpu/0/{name}" for name in ("utilisation", "memory_mib", "temperature_c", "power_w")] + [
        f"host/{name}" for name in ("cpu", "memory_mib", "disk_mib")
    ]
    for day in range(days):
        steps = np.arange(day * DAY_STEPS, (day + 1) * DAY_STEPS, dtype=np.int64)
        times = FIRST_MS + 100 * steps + generator.integers(-3, 4, len(steps))
        for name in NAMES:
            values = generator.standard_normal(len(steps)).astype(np.float32).astype(np.float64)
            store_points(run_id, {(1, 0, name): Points(steps, times, values)})
        for name in samples:
            values = np.round(50 + 10 * generator.standard_normal(len(steps) // STEPS_PER_S), 1)
            store_points(run_id, {(1, 0, name): Points(steps[::STEPS_PER_S], times[::STEPS_PER_S], values)})
        EpochMetric.objects.bulk_create(
            EpochMetric(run_id=run_id, attempt=0, epoch=day * 24 + hour, step=0, train_loss=0.5, at=timezone.now())
            for hour in range(24)
        )
        say(f"day {day + 1} of {days}")


def folder_mb(folder: Path) -> float:
    """Return the size of the files in a folder, without checkpoints, in MB."""
    files = [path for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
    return sum(path.stat().st_blocks * 512 for path in files) / 1e6


def page_ms(stack: Stack, run_id: int) -> float:
    """Return the median time of a run's page and the requests that it makes at once, in milliseconds."""
    browser = logged_in(stack.address, "operator")
    times = []
    for _ in range(PAGES):
        began = time.perf_counter()
        for path in (f"/runs/{run_id}/", f"/api/runs/{run_id}/history/?form=columns"):
            browser.open(f"{stack.address}{path}", timeout=120).read()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with Stack() as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.use()
        from django.db import connection

        run_id = create_run(stack, "a month", total_epochs=1)
        store_days(run_id, arguments.days)
        connection.close()
        stack.start_web()
        first = arguments.days * DAY_STEPS
        values = [str(first), str(LIVE_STEPS), str(CONSOLE_MB), *NAMES]
        training = stack.train(run_id, "--quiet", "--", str(WORKER), *values)
        memory = 0.0

        def ended() -> bool:
            nonlocal memory
            memory = rss_mb(training.pid) or memory
            found["supervisor_peak_rss_mb"] = max(
                found.get("supervisor_peak_rss_mb", 0), round(peak_rss_mb(training.pid))
            )
            return training.poll() is not None

        wait_for(ended, "the end of the training", 3600.0)
        found["supervisor_rss_mb"] = round(memory)
        found["run_page_ms"] = round(page_ms(stack, run_id))
        found["files_mb"] = round(folder_mb(stack.data / "runs" / str(run_id)))
        found["database_mb"] = round(database_bytes(stack.data / "steersman.sqlite3") / 1e6)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
