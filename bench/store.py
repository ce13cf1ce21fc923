"""Measure the speed of storing points through journal and supervisor, and the space that they take.

usage: python bench/store.py [--points 2000000]

A script logs random values as fast as it can, while its supervisor stores and folds them. Prints one JSON object as its
last line. Keys that end with _20 are for records of 20 values, the others for records of one:
points_per_s, points_per_s_20  values stored per second, from the first `log()` to the last transaction
bytes_per_point                size of a folded float64 point in the SQLite file, including summaries
bytes_per_point_float32        the same for values that are float32
vs_rows                        time of one row per point by `executemany`, divided by that of packing: a median
vs_tensorboard_bytes           bytes of 300,000 points divided by the size of TensorBoard's event file
peak_rss_mb, peak_rss_mb_20    highest memory of the supervisor
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.support.processes import peak_rss_mb  # noqa: E402  needs the path
from tests.support.stack import ROOT, Stack, create_run, run_row, seed_stack, wait_for  # noqa: E402

WORKER = ROOT / "bench" / "support" / "burst.py"
DATABASE_POINTS = 1_000_000
TENSORBOARD_POINTS = 300_000
ROUNDS = 3
LONGEST_S = 600.0
FIRST_MS = 1_700_000_000_000


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def burst(stack: Stack, points: int, width: int) -> tuple[float, float]:
    """Run a script that logs without a pause; return values stored per second, and the supervisor's peak memory."""
    from runs.models import Chunk, StoredEvent
    from runs.series import storage
    from runs.series.chunk_rows import points_of

    records = points // width
    run_id = create_run(stack, f"burst of {width}", total_epochs=1)
    training = stack.train(run_id, "--quiet", "--", str(WORKER), str(records), str(width))
    peak = 0.0

    def ended() -> bool:
        nonlocal peak
        peak = max(peak, peak_rss_mb(training.pid))
        return training.poll() is not None

    wait_for(ended, "the end of the burst", LONGEST_S)
    if run_row(stack, run_id)["state"] != "finished":
        raise RuntimeError(f"the run did not finish:\n{stack.log()}")
    last = StoredEvent.objects.filter(run_id=run_id, kind="metrics").latest("seq").at.timestamp()
    storage.fold(run_id)
    chunks = Chunk.objects.filter(series__run_id=run_id, series__name__startswith="layer ")
    stored = sum(chunks.values_list("count", flat=True))
    if stored != records * width:
        raise RuntimeError(f"{stored} of {records * width} points are stored")
    chunk = chunks.filter(index=0).select_related("places")[0]
    first = float(points_of(chunk).times_ms[0]) / 1000
    return stored / (last - first), peak


def random_points(number: int, single: bool = False) -> Any:
    """Return `number` points of random values at intervals of ten milliseconds, as float32 if `single`."""
    import numpy as np

    from runs.series.packing.chunks import Points

    values = np.random.default_rng(0).standard_normal(number)
    if single:
        values = values.astype(np.float32).astype(np.float64)
    steps = np.arange(number, dtype=np.int64)
    return Points(steps, FIRST_MS + 10 * steps, values)


def database_bytes(path: Path) -> int:
    """Return the size of the database after VACUUM."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")
    return path.stat().st_size


def bytes_a_point(stack: Stack, points: int, single: bool) -> float:
    from django.db import connection

    from runs.series.storage import store_points

    path = stack.data / "steersman.sqlite3"
    run_id = create_run(stack, "packed")
    connection.close()
    before = database_bytes(path)
    store_points(run_id, {(1, 0, "train/loss"): random_points(points, single)})
    connection.close()
    return (database_bytes(path) - before) / points


def rows_s(points: Any) -> float:
    """Return the time to store one row per point, as a program without chunks would."""
    rows = list(zip(points.steps.tolist(), (points.times_ms / 1000).tolist(), points.values.tolist(), strict=True))
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "rows.sqlite3")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(
            "CREATE TABLE point (id INTEGER PRIMARY KEY, series INTEGER, step INTEGER, time REAL, value REAL)"
        )
        began = time.perf_counter()
        database.executemany("INSERT INTO point (series, step, time, value) VALUES (1, ?, ?, ?)", rows)
        database.commit()
        return time.perf_counter() - began


def packed_s(stack: Stack, points: Any) -> float:
    """Return the time to pack, summarise and store the same points."""
    from runs.series.storage import store_points

    run_id = create_run(stack, "packed")
    began = time.perf_counter()
    store_points(run_id, {(1, 0, "train/loss"): points})
    return time.perf_counter() - began


def tensorboard_bytes(points: int) -> int:
    warnings.simplefilter("ignore")
    from torch.utils.tensorboard import SummaryWriter

    values = random_points(points).values.tolist()
    with tempfile.TemporaryDirectory() as folder:
        writer = SummaryWriter(folder)
        for step, value in enumerate(values):
            writer.add_scalar("train/loss", value, step)
        writer.close()
        return sum(path.stat().st_size for path in Path(folder).iterdir())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=2_000_000, help="values of a burst of records of one value")
    parser.add_argument("--bursts-only", action="store_true", help="measure points_per_s alone")
    arguments = parser.parse_args()
    found: dict[str, float] = {}
    with Stack() as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.use()
        for suffix, width, points in (("", 1, arguments.points), ("_20", 20, 4 * arguments.points)):
            say(f"a burst of {points} points, {width} a record")
            rate, peak = burst(stack, points, width)
            found |= {f"points_per_s{suffix}": round(rate), f"peak_rss_mb{suffix}": round(peak)}
        if not arguments.bursts_only:
            say("bytes a point")
            found["bytes_per_point"] = round(bytes_a_point(stack, DATABASE_POINTS, single=False), 2)
            found["bytes_per_point_float32"] = round(bytes_a_point(stack, DATABASE_POINTS, single=True), 2)
            points = random_points(DATABASE_POINTS)
            ratios = [rows_s(points) / packed_s(stack, points) for _ in range(ROUNDS)]
            found["vs_rows"] = round(statistics.median(ratios), 2)
            say("TensorBoard")
            own = bytes_a_point(stack, TENSORBOARD_POINTS, single=False) * TENSORBOARD_POINTS
            found["vs_tensorboard_bytes"] = round(own / tensorboard_bytes(TENSORBOARD_POINTS), 3)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
