"""Measure the response time of /metrics with live runs: `python -m bench.costs.metrics [--runs 100]`."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.stack import SEED, Stack  # noqa: E402

SERIES = (
    "train/loss", "train/accuracy", "optimizer/learning_rate", "grad_norm", "validation/loss", "validation/accuracy",
    "gpu/0/utilisation", "gpu/0/memory_used_mib", "gpu/0/memory_total_mib", "gpu/0/temperature_c", "gpu/0/power_w",
)  # fmt: skip


def fill(runs: int) -> str:
    """Create live runs; return a token for metrics."""
    from django.contrib.auth.models import User
    from django.utils import timezone

    from runs.access.tokens import create_token
    from runs.models import Project, Run, Series

    project = Project.objects.get(slug="lab")
    report = {"journal_backlog_bytes": 0, "transactions": 5, "transaction_s": 0.1}
    for number in range(runs):
        now = timezone.now()
        run = Run.objects.create(
            project=project, name=f"run {number}", state="running", heartbeat_at=now, last_point_at=now,
            usual_step_s=0.1, supervisor_report=report,
        )  # fmt: skip
        Series.objects.bulk_create(Series(run=run, name=name, last_value=0.5) for name in SERIES)
        # The portal does not return these series.
        Series.objects.bulk_create(Series(run=run, name=f"other/{place}", last_value=1.0) for place in range(40))
    return create_token(User.objects.get(username="owner"), project, "metrics", name="prometheus")[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--requests", type=int, default=50)
    options = parser.parse_args()
    with Stack() as stack:
        stack.migrate(SEED)
        stack.use()
        token = fill(options.runs)
        from django.conf import settings
        from django.test import Client

        settings.ALLOWED_HOSTS = ["testserver"]
        client = Client(headers={"Authorization": f"Bearer {token}"})
        took: list[float] = []
        cpu: list[float] = []
        answer: Any = client.get("/metrics")
        for _ in range(options.requests):
            began, spent = time.perf_counter(), time.process_time()
            answer = client.get("/metrics")
            took.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - spent))
        assert answer.status_code == 200
        lines = answer.content.count(b"\n")
        found = {"runs": options.runs, "lines": lines, "median_ms": round(statistics.median(took), 1)}
        print(json.dumps(found | {"fastest_ms": round(min(took), 1), "cpu_ms": round(statistics.median(cpu), 1)}))


if __name__ == "__main__":
    main()
