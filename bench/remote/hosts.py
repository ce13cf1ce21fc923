"""Measure `manage.py record` while 100 training hosts report, 5 of them watched by a viewer each.

usage: python -m bench.remote.hosts [--hosts 100] [--watched 5] [--seconds 30]

One process simulates all hosts, with the protocol of real hosts. Each training logs 50 points per second with three
series, sends reports at the interval that the portal requests, and samples of its machine every 2 s. Then one
`manage.py train` with the same training is measured alone. Prints one JSON object as its last line:
hosts              connections that reported until the end
reports_per_s      stored reports of all hosts
cpu_ms_per_report  CPU time of all threads of `manage.py record`, per report
cpu_share          CPU time of `manage.py record`, per second of the measurement
local_cpu_ms       CPU time of the supervisor of `manage.py train`, per report
vs_local           cpu_ms_per_report / local_cpu_ms
lost               reported points that are not stored
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.remote.light_host import LightHost
from bench.support.processes import cpu_s
from tests.support.hosts.training_host import Portal
from tests.support.stack import Stack, create_run, operator_ticket, seed_project, wait_for
from tests.support.watcher import Watcher

POINTS_PER_SECOND = 50
WARM_UP_S = 5.0
PATIENCE_S = 120.0
WORKER = Path(__file__).resolve().parents[2] / "tests" / "trainings" / "paced.py"


def open_hosts(stack: Stack, count: int) -> list[LightHost]:
    """Open a run for each host by one token; needs `Stack.use`."""
    from django.contrib.auth.models import User

    from runs.access.tokens import create_token
    from runs.launches.opening import Launch, open_launch
    from runs.models import Project
    from runs.recording.lifecycle import Holder

    token, value = create_token(User.objects.get(username="operator"), Project.objects.get(), "train", name="bench")
    address = stack.address.replace("http", "ws")
    hosts = []
    for number in range(count):
        opened = open_launch(token, Launch(f"job {number}", "0", Holder(f"node{number}", "boot", 1), []))
        hosts.append(LightHost(address, opened.run.pk, opened.attempt, value, POINTS_PER_SECOND))
    return hosts


async def until(condition: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE_S:.0f} s for {what}")
        await asyncio.sleep(0.05)


async def measure(
    stack: Stack, hosts: list[LightHost], tickets: dict[int, str], seconds: float, pid: int
) -> dict[str, float]:
    watchers = [Watcher(stack.address, run, lambda ticket=ticket: ticket) for run, ticket in tickets.items()]  # type: ignore[misc]
    following = [asyncio.create_task(watcher.follow()) for watcher in watchers]
    reporting = [asyncio.create_task(host.report_forever()) for host in hosts]
    await until(lambda: all(watcher.hello for watcher in watchers), "the viewers")
    await until(lambda: all(host.stored for host in hosts), "the first report of each host")
    await until(lambda: all(host.report_every_s < 1 for host in hosts[: len(tickets)]), "shorter times between reports")
    await asyncio.sleep(WARM_UP_S)
    stored, spent, began = sum(host.stored for host in hosts), cpu_s(pid), time.monotonic()
    before = [host.stored for host in hosts]
    await asyncio.sleep(seconds)
    lasted, reports = time.monotonic() - began, sum(host.stored for host in hosts) - stored
    used = cpu_s(pid) - spent
    alive = sum(host.stored > earlier for host, earlier in zip(hosts, before, strict=True))
    for host in hosts:
        host.ends = True
    await asyncio.gather(*reporting)
    for watcher in watchers:
        await watcher.stop()
    await asyncio.gather(*following)
    return {
        "hosts": alive,
        "reports_per_s": round(reports / lasted, 1),
        "cpu_ms_per_report": round(1000 * used / reports, 3),
        "cpu_share": round(used / lasted, 3),
    }


def local_cpu_ms(stack: Stack, seconds: float) -> float:
    """Return the CPU time of a supervisor per report, in milliseconds, while its training logs; needs `Stack.use`."""
    from runs.models import Attempt

    run_id = create_run(stack, "local")
    training = stack.train(run_id, "--quiet", "--", str(WORKER), str(POINTS_PER_SECOND), "100000")

    def reports() -> int:
        return Attempt.objects.filter(run_id=run_id).values_list("reports", flat=True).first() or 0

    wait_for(lambda: reports() > 20, f"reports of a local training\n{stack.log()}")
    time.sleep(WARM_UP_S)
    before, spent = reports(), cpu_s(training.pid)
    time.sleep(seconds)
    used, stored = cpu_s(training.pid) - spent, reports() - before
    return 1000 * used / stored


def lost_points(hosts: list[LightHost]) -> int:
    from tests.support.killing import stored_points

    lost = 0
    for host in hosts:
        stored = {step for _, _, step, _ in stored_points(host.run_id, "loss")}
        lost += host.stored_step - len(stored)
    return lost


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--watched", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=30.0)
    chosen = parser.parse_args()
    with Stack() as stack:
        stack.migrate()
        stack.use()
        seed_project()
        stack.start_redis()
        Portal(stack).start()
        assert stack.record is not None
        hosts = open_hosts(stack, chosen.hosts)
        print(f"{chosen.hosts} hosts report for {chosen.seconds:.0f} s", file=sys.stderr)
        tickets = {host.run_id: operator_ticket(host.run_id) for host in hosts[: chosen.watched]}
        found = asyncio.run(measure(stack, hosts, tickets, chosen.seconds, stack.record.pid))
        lost = lost_points(hosts)
        print("one training reports without a network", file=sys.stderr)
        local = local_cpu_ms(stack, chosen.seconds)
    versus = round(found["cpu_ms_per_report"] / local, 2)
    print(json.dumps(found | {"local_cpu_ms": round(local, 3), "vs_local": versus, "lost": lost}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
