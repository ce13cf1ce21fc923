"""Measure the time from `log()` in a worker until WebSocket viewers receive the point, at the default tick.

usage: python bench/latency.py

Embedded server, Daphne and supervisor are separate processes; 20 clients watch a worker that logs 50 points a second.
Prints one JSON object as its last line:
p50_ms, p95_ms, max_ms  over all deliveries
lost                    points that a client never received
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.stack import Stack, operator_ticket, seed_project  # noqa: E402
from tests.support.watcher import Watcher  # noqa: E402

CLIENTS = 20
POINTS_PER_SECOND = 50
SECONDS = 40
# Points during the start of the worker do not count.
WARM_UP_S = 3
CATCH_UP_TIMEOUT_S = 15
WORKER = Path(__file__).resolve().parent.parent / "tests" / "trainings" / "paced.py"


def delays_ms(watcher: Watcher, after: float) -> list[float]:
    """Return, for each received point, the time from its `log()` until its frame arrived."""
    delays = []
    for event, received_at in zip(watcher.events, watcher.received_at, strict=True):
        if event["kind"] != "metrics":
            continue
        for block in event["blocks"]:
            called = block["values"].get("called_at", [])
            delays += [(received_at - at) * 1000 for at in called if at is not None and at > after]
    return delays


async def measure(stack: Stack, run_id: int, tickets: list[str]) -> list[Watcher]:
    watchers = [Watcher(stack.address, run_id, lambda ticket=ticket: ticket) for ticket in tickets]  # type: ignore[misc]
    following = [asyncio.create_task(watcher.follow()) for watcher in watchers]
    while not all(watcher.hello for watcher in watchers):
        await asyncio.sleep(0.05)
    print(f"{CLIENTS} clients watch; logging {SECONDS} s", file=sys.stderr)
    stack.train(run_id, "--quiet", "--", str(WORKER), str(POINTS_PER_SECOND), str(SECONDS))
    until = time.monotonic() + SECONDS + CATCH_UP_TIMEOUT_S + 10
    expected = POINTS_PER_SECOND * SECONDS
    while time.monotonic() < until:
        if all(len(watcher.steps("called_at")) >= expected for watcher in watchers):
            break
        await asyncio.sleep(0.5)
    for watcher in watchers:
        await watcher.stop()
    await asyncio.gather(*following)
    return watchers


def main() -> int:
    with Stack() as stack:
        print("starting embedded server and Daphne", file=sys.stderr)
        stack.migrate()
        stack.use()
        from runs.models import Run

        run = Run.objects.create(project=seed_project(), name="latency")
        stack.start_redis()
        stack.start_web()
        tickets = [operator_ticket(run.pk) for _ in range(CLIENTS)]
        watchers = asyncio.run(measure(stack, run.pk, tickets))
        first = min(watcher.received_at[0] for watcher in watchers if watcher.received_at)
        delays = sorted(delay for watcher in watchers for delay in delays_ms(watcher, first + WARM_UP_S))
        expected = set(range(1, POINTS_PER_SECOND * SECONDS + 1))
        lost = sum(len(expected - set(watcher.steps("called_at"))) for watcher in watchers)
        quantiles = statistics.quantiles(delays, n=100)
        print(
            json.dumps(
                {
                    "p50_ms": round(quantiles[49], 1),
                    "p95_ms": round(quantiles[94], 1),
                    "p99_ms": round(quantiles[98], 1),
                    "max_ms": round(delays[-1], 1),
                    "lost": lost,
                    "deliveries": len(delays),
                    "clients": CLIENTS,
                    "points_per_second": POINTS_PER_SECOND,
                }
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
