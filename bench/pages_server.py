"""Measure what the list of runs and a run's page cost the server, with 10,000 runs of 30 parameters and 40 series each.

usage: python bench/pages_server.py [--runs 10000]
       python scripts/postgres.py python bench/pages_server.py      (the same on PostgreSQL)

Prints one JSON object as its last line; times are medians in milliseconds, from the request to the end of the response:
database                 kind of the database
runs                     number of runs
list_ms                  the list as it opens
list_sorted_by_metric_ms the list, sorted by the last value of a series, with a column of it
list_filtered_ms         the list, narrowed by a parameter, a series, a tag and an author
list_grouped_ms          the list in groups by a parameter, with the mean of a series, two of them unfolded
project_ms               the page of the project, with its best runs by a series
run_ms                   the page of a run
queries_list             queries of the list that is filtered and sorted; the same for 100 runs as for all, or it fails
queries_grouped          queries of the list in groups; the same for 100 runs as for all, or it fails
queries_run              queries of the page of a run
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.support.browsing import logged_in  # noqa: E402  needs the path
from tests.support.stack import Stack, seed_stack  # noqa: E402

PARAMETERS, SERIES, EPOCHS = 30, 40, 5
FEW = 100
RUNS_A_BLOCK = 500
REQUESTS = 15
METRIC = "validation/accuracy"
NAMES = ("train/loss", METRIC, *(f"layer/{number}/norm" for number in range(SERIES - 2)))
SORTED = urlencode({"sort": f"-last:{METRIC}", "column": f"last:{METRIC}"})
BY_HIGHEST = urlencode({"sort": f"-max:{METRIC}", "column": f"max:{METRIC}", "q": f"max:{METRIC} > 0.5"})
FILTERED = urlencode({"q": f"learning_rate < 0.05 {METRIC} > 0.5 tag = baseline author = me"})
BOTH = f"{FILTERED}&{SORTED}"
GROUPED = f"{SORTED}&" + urlencode({"group": "parameter:layers.0.width", "column": "duration"}) + "&open=3&open=5"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fill(first: int, count: int) -> None:
    """Create `count` runs with everything that the list and the page read."""
    from django.contrib.auth.models import User
    from django.utils import timezone

    from runs.models import Attempt, EpochMetric, Project, Run, RunTag, Series

    project, operator = Project.objects.get(slug="lab"), User.objects.get(username="operator")
    generator = random.Random(first)
    now = timezone.now()
    runs = Run.objects.bulk_create(
        Run(
            project=project,
            name=f"sweep {first + place}",
            state=generator.choice(("finished", "finished", "stopped", "failed")),
            created_by=operator,
            parameters={"learning_rate": 10 ** -generator.uniform(1, 4), "optimizer": "adam"}
            | {f"layers.{number}.width": generator.randrange(9) for number in range(PARAMETERS - 2)},
            started_at=now,
            trained_s=generator.uniform(10, 90_000),
            total_epochs=20,
            epoch=20,
            step=9_000,
            attempt=1,
            best_metric=generator.random(),
            best_metric_name=METRIC,
        )
        for place in range(count)
    )
    Attempt.objects.bulk_create(
        Attempt(run=run, number=1, host=f"gpu{run.pk % 8}", boot_id="b", supervisor_pid=1, ended_at=now) for run in runs
    )
    Series.objects.bulk_create(
        (
            Series(
                run=run,
                name=name,
                last_step=9_000,
                last_time=now.timestamp(),
                last_value=generator.random(),
                least_value=generator.random(),
                greatest_value=generator.random(),
            )
            for run in runs
            for name in NAMES
        ),
        batch_size=2_000,
    )
    EpochMetric.objects.bulk_create(
        EpochMetric(run=run, attempt=1, epoch=epoch, step=epoch, train_loss=generator.random(), at=now)
        for run in runs
        for epoch in range(EPOCHS)
    )
    RunTag.objects.bulk_create(RunTag(run=run, name="baseline") for run in runs if run.pk % 10 == 0)


def queries(path: str) -> int:
    """Return the number of queries of a second request: a process reads some things only once."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(User.objects.get(username="operator"))
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def median_ms(browser: urllib.request.OpenerDirector, address: str) -> float:
    times = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        with browser.open(address) as answer:
            answer.read()
        times.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(times), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    runs: int = parser.parse_args().runs
    with Stack() as stack:
        seed_stack(stack)
        stack.use()
        from django.conf import settings
        from django.db import connection

        from runs.models import Project, Run

        settings.ALLOWED_HOSTS = ["127.0.0.1"]
        fill(0, FEW)
        Project.objects.filter(slug="lab").update(goal_metric=f"last:{METRIC}", goal_direction="max")
        few = [queries(f"/?{asked}") for asked in (BOTH, GROUPED, BY_HIGHEST)]
        for first in range(FEW, runs, RUNS_A_BLOCK):
            fill(first, min(RUNS_A_BLOCK, runs - first))
            say(f"{min(runs, first + RUNS_A_BLOCK)} runs")
        # Give the planner the statistics that a database has after a day.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        run = Run.objects.order_by("pk")[runs // 2].pk
        many = [queries(f"/?{asked}") for asked in (BOTH, GROUPED, BY_HIGHEST)]
        assert many == few, f"{few} queries for {FEW} runs, {many} for {runs}"
        found: dict[str, Any] = {
            "database": connection.vendor,
            "runs": Run.objects.count(),
            "queries_list": many[0],
            "queries_grouped": many[1],
            "queries_run": queries(f"/runs/{run}/"),
        }
        connection.close()
        stack.start_redis()
        stack.start_web()
        browser = logged_in(stack.address, "operator")
        for key, path in (
            ("list_ms", "/"),
            ("list_sorted_by_metric_ms", f"/?{SORTED}"),
            ("list_by_highest_ms", f"/?{BY_HIGHEST}"),
            ("list_filtered_ms", f"/?{FILTERED}"),
            ("list_grouped_ms", f"/?{GROUPED}"),
            ("project_ms", "/projects/lab/"),
            ("run_ms", f"/runs/{run}/"),
        ):
            found[key] = median_ms(browser, stack.address + path)
            say(f"{key} {found[key]}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
