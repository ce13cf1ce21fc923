"""Runs of the page's benches, and a process that appends points to one of them as a supervisor would.

usage: python bench/portal/feeding.py RUN SERIES        appends ten updates per second until it is killed
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.support.stack import ROOT, Stack  # noqa: E402  needs the path

COLLECTED = ROOT / "staticfiles"
HISTORY = 2000
UPDATES_PER_S = 10
POINTS_AN_UPDATE = 5


def names_of(series: int) -> list[str]:
    """Return the names of this many series: those of a training, then those of its layers if there are more than 16."""
    return [f"train/series_{number:02}" if number < 16 else f"layers/{number}/norm" for number in range(series)]


def value_at(step: int) -> float:
    return math.exp(-step / 3000) + random.gauss(0, 0.02)


def block(series: int, first: int, count: int, now: float) -> Any:
    """Return the event with `count` points of each series from step `first`."""
    from runs.protocol.events import Block
    from tests.support.stored_points import metrics_event

    steps = list(range(first, first + count))
    values: dict[str, list[float | None]] = {name: [value_at(step) for step in steps] for name in names_of(series)}
    times = [now + place / (UPDATES_PER_S * POINTS_AN_UPDATE) for place in range(count)]
    return metrics_event([Block(steps=steps, times=times, values=values)])


def create_live_run(project: Any, name: str, series: int) -> int:
    """Make a run that trains, with `HISTORY` points of each series; return its id."""
    from django.utils import timezone

    from runs.models import Run, RunState
    from runs.recording import feed
    from runs.series import storage

    now = timezone.now()
    run = Run.objects.create(
        project=project, name=name, state=RunState.RUNNING, attempt=1, started_at=now, heartbeat_at=now
    )
    began = time.time() - HISTORY / (UPDATES_PER_S * POINTS_AN_UPDATE)
    for first in range(1, HISTORY, 500):
        history = block(series, first, 500, began + first / (UPDATES_PER_S * POINTS_AN_UPDATE))
        feed.append(run.pk, history)
        storage.update_latest(run.pk, [history])
    return run.pk


def feed_for_ever(run_id: int, series: int) -> None:
    """Append an update each tenth of a second, until killed."""
    import django

    django.setup()
    from django.db.models import F
    from django.utils import timezone

    from runs.models import Run
    from runs.recording import feed

    step = HISTORY + 1
    due = time.monotonic()
    while True:
        feed.append(run_id, block(series, step, POINTS_AN_UPDATE, time.time()))
        Run.objects.filter(pk=run_id).update(heartbeat=F("heartbeat") + 1, heartbeat_at=timezone.now())
        step += POINTS_AN_UPDATE
        due += 1 / UPDATES_PER_S
        time.sleep(max(0.0, due - time.monotonic()))


@contextmanager
def collected_files(stack: Stack) -> Iterator[None]:
    """Serve static files as an installed portal does: with hashed names, and compressed."""
    was_there = COLLECTED.exists()
    stack.manage("collectstatic", "--noinput", "-v", "0")
    try:
        yield
    finally:
        # What is left of a clone without them would hide later changes of their sources from its tests.
        if not was_there:
            shutil.rmtree(COLLECTED)


@contextmanager
def fed(stack: Stack, run_id: int, series: int) -> Iterator[None]:
    """Let a process append points to the run for as long as the block lasts."""
    command = [sys.executable, __file__, str(run_id), str(series)]
    environment = stack.environment | {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"}
    feeder = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        feeder.kill()
        feeder.wait()


if __name__ == "__main__":
    feed_for_ever(int(sys.argv[1]), int(sys.argv[2]))
