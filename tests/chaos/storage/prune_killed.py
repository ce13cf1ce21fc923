"""Kill `manage.py prune` with SIGKILL repeatedly: the next one must continue, and nothing that is kept may be lost.

    .venv/bin/python -m tests.chaos.storage.prune_killed [--kills 60]

Each run has ended long ago, with two attempts, the second of which overlaps the end of the first. Prints one JSON
object as its last line:
kills       prunings that were killed after they had changed something
wrong       series whose points differ from those that the rule keeps
left        checkpoints that the rule keeps and that are gone, or the reverse
changed     epochs, commands, events and last values that differ from those before
findings    findings of `manage.py verify` at the end
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.stack import Stack, create_run, rows, seed_stack, wait_for

SERIES, POINTS = 6, 9_000
EPOCHS, EVERY = 9, 4
ENDED = datetime(2026, 1, 1, tzinfo=UTC)
LONGEST_PAUSE_S = 0.4


def seed(stack: Stack, number: int) -> list[int]:
    """Create runs that have ended; return their ids."""
    from runs.models import Project

    Project.objects.update(coarse_after_days=30, checkpoint_epochs=EVERY)
    return [make_run(stack, place) for place in range(number)]


def make_run(stack: Stack, place: int) -> int:
    import numpy as np
    from django.db import transaction

    from runs.models import Attempt, Command, EpochMetric, Run
    from runs.protocol.events import LogLine, LogWritten
    from runs.recording import feed
    from runs.series.packing.chunks import Points
    from runs.series.storage import store_points

    run_id = create_run(stack, f"old {place}")
    generator = np.random.default_rng(place)
    run = Run.objects.get(pk=run_id)
    first_ms = int((ENDED - timedelta(days=1)).timestamp()) * 1000
    for number, first in ((1, 0), (2, POINTS // 3)):
        Attempt.objects.create(
            run=run, number=number, host=_host(), supervisor_pid=1, started_at=ENDED, ended_at=ENDED, last_step=POINTS
        )
        steps = np.arange(first, first + POINTS, dtype=np.int64)
        found = {}
        for name in [f"layer {layer}/loss" for layer in range(SERIES)] + ["gpu/0/utilisation"]:
            values = generator.standard_normal(POINTS)
            values[generator.integers(0, POINTS, 3)] = (np.nan, np.inf, -np.inf)
            found[number, 0, name] = Points(steps, first_ms + 2000 * steps, values)
        with transaction.atomic():
            store_points(run_id, found)
        for epoch in range(1, EPOCHS + 1):
            make_checkpoint(stack, run, number, epoch)
            EpochMetric.objects.create(run=run, attempt=number, epoch=epoch, step=epoch, train_loss=epoch, at=ENDED)
    Command.objects.create(run=run, kind="note", arguments={"text": "kept"}, sent_at=ENDED)
    feed.append(run_id, LogWritten(attempt=2, lines=[LogLine(text="said")]))
    Run.objects.filter(pk=run_id).update(state="finished", attempt=2, ended_at=ENDED)
    return run_id


def make_checkpoint(stack: Stack, run: Any, attempt: int, epoch: int) -> None:
    from runs.models import Checkpoint
    from steersman.files.checkpoint import Manifest, write_hashed, write_manifest

    path = f"attempts/{attempt}/checkpoints/{epoch}"
    folder = stack.data / "runs" / str(run.pk) / path
    folder.mkdir(parents=True)
    files = {
        name: write_hashed(folder / name, lambda file: file.write(random.randbytes(50_000)))
        for name in ("model.pt", "training.pt", "rank-0000.pt")
    }
    reason = "best" if epoch == 3 else "last"
    written = write_manifest(folder, Manifest(step=epoch, epoch=epoch, name=reason, reason=reason, files=files))
    Checkpoint.objects.create(
        run=run, attempt=attempt, step=epoch, epoch=epoch, name=reason, path=path, reason=reason,
        size_bytes=written.size_bytes, sha256=written.sha256, created_at=ENDED,
    )  # fmt: skip


def _host() -> str:
    import socket

    return socket.gethostname()


def expected_points(run_ids: list[int]) -> dict[tuple[int, str, int], Any]:
    """Return the points that the rule keeps of each series in each attempt, computed over all points at once."""
    from runs.models import Series
    from runs.pruning.thinning import thin
    from tests.support.stored_points import read_points

    return {
        (series.run_id, series.name, attempt): thin(points, by_time=series.axis == "time")
        for series in Series.objects.filter(run__in=run_ids)
        for attempt, points in read_points(series.run_id, series.name).items()
    }


def wrong_series(expected: dict[tuple[int, str, int], Any]) -> int:
    import numpy as np

    from tests.support.stored_points import read_points

    wrong = 0
    for (run_id, name, attempt), points in expected.items():
        found = read_points(run_id, name).get(attempt)
        pairs = [] if found is None else [(found.steps, points.steps), (found.times_ms, points.times_ms)]
        same = found is not None and all(np.array_equal(*pair) for pair in pairs)
        wrong += not (same and found is not None and np.array_equal(found.values, points.values, equal_nan=True))
    return wrong


def wrong_checkpoints(stack: Stack, run_ids: list[int]) -> int:
    wrong = 0
    # Epochs 4 and 8 of each attempt; the newest; the best of attempt 2; the marked one of attempt 1.
    kept = {(1, 4), (1, 8), (2, 4), (2, 8), (2, EPOCHS), (2, 3), (1, 5)}
    for run_id in run_ids:
        listed = rows(stack, "SELECT attempt, epoch FROM runs_checkpoint WHERE run_id = ?", run_id)
        folders = (stack.data / "runs" / str(run_id)).glob("attempts/*/checkpoints/*")
        there = {(int(path.parts[-3]), int(path.name)) for path in folders}
        wrong += len({(row["attempt"], row["epoch"]) for row in listed} ^ kept) + len(there ^ kept)
    return wrong


def facts(stack: Stack) -> list[Any]:
    """Return the data that pruning must not change."""
    questions = (
        "SELECT run_id, attempt, epoch, train_loss FROM runs_epochmetric ORDER BY id",
        "SELECT run_id, kind, arguments FROM runs_command ORDER BY id",
        "SELECT run_id, frame FROM runs_storedevent WHERE seq = 1 ORDER BY id",
        "SELECT run_id, name, last_step, last_time, last_value FROM runs_series ORDER BY id",
        "SELECT id, state, attempt, ended_at FROM runs_run ORDER BY id",
    )
    return [rows(stack, question) for question in questions]


def state_of(stack: Stack) -> tuple[int, int]:
    (row,) = rows(
        stack,
        "SELECT (SELECT SUM(thinnings) FROM runs_run) AS thinned, COUNT(*) AS checkpoints FROM runs_checkpoint",
    )
    return int(row["thinned"]), int(row["checkpoints"])


def prune_and_kill(stack: Stack) -> bool:
    """Start a pruning and kill it some time after its first change; return whether it was still running."""
    before = state_of(stack)
    process = subprocess.Popen(stack.command("prune"), env=stack.environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or state_of(stack) != before, "the first change of a pruning")
        # Hit the pruning at a random point: in the middle of a transaction, or of the files of a checkpoint.
        time.sleep(random.uniform(0.0, LONGEST_PAUSE_S) ** 2)
        was_running = process.poll() is None
    finally:
        process.kill()
        process.wait()
    return was_running


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--runs", type=int, default=8)
    arguments = parser.parse_args()
    with Stack() as stack:
        seed_stack(stack)
        stack.use()
        run_ids = seed(stack, arguments.runs)
        for row in rows(stack, "SELECT id FROM runs_checkpoint WHERE attempt = 1 AND epoch = 5"):
            stack.manage("prune", "--keep", str(row["id"]))
        expected, before = expected_points(run_ids), facts(stack)
        told = stack.manage("prune", "--dry-run").stdout
        unchanged = state_of(stack) == (0, 2 * EPOCHS * arguments.runs)
        killed = 0
        while killed < arguments.kills and prune_and_kill(stack):
            killed += 1
        print(stack.manage("prune").stdout, file=sys.stderr)
        again = stack.manage("prune", "--dry-run").stdout
        found = {
            "kills": killed,
            "dry_run_told": told.count("points would become"),
            "dry_run_changed": int(not unchanged),
            "left_to_prune": 0 if again.startswith("0 runs") else 1,
            "wrong": wrong_series(expected),
            "left": wrong_checkpoints(stack, run_ids),
            "changed": sum(one != other for one, other in zip(before, facts(stack), strict=True)),
            "findings": len(json.loads(stack.manage("verify", "--json", check=False).stdout)["findings"]),
        }
    print(json.dumps(found))
    faults = ("dry_run_changed", "left_to_prune", "wrong", "left", "changed", "findings")
    return int(any(found[name] for name in faults))


if __name__ == "__main__":
    sys.exit(main())
