"""Measure the delay of points and commands of a training on another host, through nginx with TLS.

usage: python -m bench.remote.latency [--seconds 40] [--commands 200]

`steersman run` trains in an environment without Django, and reaches the portal and `manage.py record` through nginx as
deploy/nginx configures it. 20 clients watch a script that logs 50 points per second; then one client sends changes of a
knob at random moments. Needs nginx. Prints one JSON object as its last line:
p50_ms, p95_ms, max_ms   from `log()` until the frame arrives at a client, over all deliveries
lost                     points that a client never received
step_ms                  median step of the training
command_p50_ms, command_p95_ms  from sending a command until the viewer's socket reports it as applied
not_applied              commands that were not applied
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from itertools import pairwise

from bench.control_latency import Sender
from bench.latency import CLIENTS, WARM_UP_S, delays_ms
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import operator_ticket, seed_stack, wait_for
from tests.support.tls.behind_nginx import BehindNginx
from tests.support.watcher import Watcher

PATIENCE_S = 120.0
POINTS_PER_SECOND = 50
TRAINING = """
import time
import steersman

run = steersman.attach(rate=0.1)
rate = run.knob("rate", 0.1, minimum=0.0, maximum=1.0)
start, step = time.monotonic(), 0
while not run.stopping:
    step += 1
    time.sleep(max(0.0, start + step / {rate} - time.monotonic()))
    run.step = step
    run.log(step, called_at=time.time(), loss=1 / step, rate=rate.value)
"""


class Knobs(Sender):
    """Changes the knob of the script."""

    knob = "rate"
    values = (0.25, 0.5)


async def measure(
    address: str, run_id: int, tickets: list[str], seconds: float, commands: int
) -> tuple[list[Watcher], Knobs, list[str]]:
    watchers = [Watcher(address, run_id, lambda ticket=ticket: ticket) for ticket in tickets]  # type: ignore[misc]
    following = [asyncio.create_task(watcher.follow()) for watcher in watchers]
    while not all(watcher.hello for watcher in watchers):
        await asyncio.sleep(0.05)
    print(f"{len(watchers)} clients watch for {seconds:.0f} s", file=sys.stderr)
    await asyncio.sleep(WARM_UP_S + seconds)
    print(f"{commands} commands", file=sys.stderr)
    sender = Knobs(watchers[0])
    ids = await sender.send(commands)
    for watcher in watchers:
        await watcher.stop()
    await asyncio.gather(*following)
    return watchers, sender, ids


def missed(watchers: list[Watcher]) -> int:
    """Return the points between the first and the last one of a client that it never received."""
    lost = 0
    for watcher in watchers:
        steps = set(watcher.steps("called_at"))
        lost += max(steps) - min(steps) + 1 - len(steps)
    return lost


def step_ms(watcher: Watcher) -> float:
    metrics = [event for event in watcher.events if event["kind"] == "metrics"]
    times = [
        moment for event in metrics for block in event["blocks"] for moment in block["values"].get("called_at", [])
    ]
    return statistics.median((later - earlier) * 1000 for earlier, later in pairwise(times))


def quantiles(delays: list[float]) -> tuple[float, float]:
    found = statistics.quantiles(delays, n=100)
    return round(found[49], 1), round(found[94], 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--commands", type=int, default=200)
    chosen = parser.parse_args()
    with BehindNginx() as stack:
        os.environ["SSL_CERT_FILE"] = stack.certificate
        seed_stack(stack)
        stack.use()
        from runs.models import Run

        stack.start_redis()
        Portal(stack).start()
        host = TrainingHost(stack, stack.folder / "host")
        host.script(TRAINING.replace("{rate}", str(POINTS_PER_SECOND)))
        try:
            host.start("run", "--name", "far", "--", "python", "train.py", SSL_CERT_FILE=stack.certificate)
            run = wait_for(lambda: Run.objects.filter(name="far", step__gt=0).first(), f"a point\n{host.printed()}")
            tickets = [operator_ticket(run.pk) for _ in range(CLIENTS)]
            found = asyncio.run(measure(stack.address, run.pk, tickets, chosen.seconds, chosen.commands))
        finally:
            host.close()
    watchers, sender, ids = found
    first = min(watcher.received_at[0] for watcher in watchers)
    delays = [delay for watcher in watchers for delay in delays_ms(watcher, first + WARM_UP_S)]
    p50_ms, p95_ms = quantiles(delays)
    command_p50_ms, command_p95_ms = quantiles(sender.delays_ms(ids))
    result = {
        "p50_ms": p50_ms,
        "p95_ms": p95_ms,
        "max_ms": round(max(delays), 1),
        "lost": missed(watchers),
        "step_ms": round(step_ms(watchers[0]), 1),
        "command_p50_ms": command_p50_ms,
        "command_p95_ms": command_p95_ms,
        "not_applied": sum(key not in sender.seen for key in ids),
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
