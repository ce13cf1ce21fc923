"""Measure the cost of sending one event to many viewers: our server, other servers, and a plain loop of sends.

usage: python bench/fanout.py [--seconds 5] [--rounds 3] [--only ours,floor]

Servers run on one core; viewers, Redis and the publisher on the others. The publisher keeps at most two events in
flight, so our server puts two events into one message. Half of our viewers are members, half are guests by a share
link. Prints one JSON object as its last line: medians of all rounds for 1,000 viewers, and for 200 with suffix _200:
deliveries_per_cpu_s   events received by viewers per second of the server's CPU time (user and system)
vs_floor               deliveries_per_cpu_s divided by that of a bare loop of `socket.send` of a prepared frame
vs_broadcast           … by that of `websockets.broadcast`
vs_stock_pubsub, vs_stock_inmemory  … by that of a stock Channels application on Daphne, over Redis and in memory
kib_per_viewer         memory of the process per viewer; kib_per_viewer_vs_stock divides it by that of stock over Redis
bounded_vs_unbounded   … by that of the same server without bounds, order and guests: one send per viewer and event
deflate_bytes_ratio, deflate_cpu_ratio  bytes and CPU time per delivery with compression, divided by those without
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.support.processes import cpu_s  # noqa: E402
from bench.support.viewers import Crowd, Viewer, metrics_events_in  # noqa: E402
from tests.support.stack import ROOT, Stack, free_port, seed_project  # noqa: E402

SIZES = (1000, 200)
UNDER_WAY = 2
WARM_UP_EVENTS = 20
# Events sent to one viewer before the others connect: as many as our server keeps for viewers that reconnect. Without
# them, memory that a run takes for any number of viewers would count as memory per viewer.
EVENTS_BEFORE = 2_000
# The kernel counts the CPU time of a process in hundredths of a second.
LEAST_CPU_S = 1.0
# About 500 bytes of JSON, as a recipe logs in one tick.
NAMES = ("train/loss", "train/accuracy", "optimizer/learning_rate", "optimizer/gradient_norm", "speed/steps_per_s")
MEMBERS = 8
CORES = sorted(os.sched_getaffinity(0))
PEERS = ("floor", "broadcast", "stock-pubsub", "stock-memory")
# Servers that differ by a few percent alternate and run more often than the others, which differ by factors.
IN_EACH_ROUND = ("ours", "unbounded", "deflate", "unbounded", "ours", "ours", "unbounded", *PEERS)
# Sends once per viewer and event, without the queue and the viewer's pace.
UNBOUNDED = """
from runs.live import outbox
put = outbox.Outbox.put
def put_at_once(self, frame):
    if self.wire is None:
        put(self, frame)
    else:
        self._send(frame.wire(self._compressed))
outbox.Outbox.put = put_at_once
"""


@dataclass
class Measured:
    deliveries_per_cpu_s: float
    bytes_per_delivery: float
    kib_per_viewer: float


@dataclass
class Server:
    """A running server: its process, the targets of its viewers, and how to publish an event."""

    pid: int
    port: int
    targets: Callable[[int], list[str]]
    publish: Callable[[Crowd, list[Viewer]], None]


def memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@contextmanager
def on_the_servers_core() -> Iterator[None]:
    """Run processes that start inside on the first core, and this process on the others."""
    os.sched_setaffinity(0, CORES[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, CORES[1:] or CORES)


def event(step: int) -> dict[str, Any]:
    values = {name: [round(random.random(), 6) for _ in range(4)] for name in NAMES}
    values["optimizer/learning_rate"] = [0.001] * 4
    times = [1e9 + step + part / 4 for part in range(4)]
    return {"steps": list(range(step, step + 4)), "times": times, "values": values}


@contextmanager
def ours(stack: Stack, *, unbounded: bool = False) -> Iterator[Server]:
    """Run the portal with one run; half of the viewers are members."""
    from django.contrib.auth.models import User

    from runs.access.tickets import issue_ticket
    from runs.access.tokens import create_token
    from runs.models import Project, Run
    from runs.protocol.events import Block
    from runs.recording import feed
    from tests.support.stored_points import metrics_event

    users = list(User.objects.order_by("pk"))
    project = Project.objects.get()
    run = Run.objects.create(project=project, name="fanout", state="running", attempt=1)
    key = create_token(users[0], project, "share", name="hall", run=run)[1]
    with on_the_servers_core():
        stack.start_web(UNBOUNDED if unbounded else "")
    assert stack.web is not None

    def targets(count: int) -> list[str]:
        address = f"/ws/runs/{run.pk}/?token="
        members = [address + issue_ticket(users[number % MEMBERS], run) for number in range(count // 2)]
        return members + [address + key] * (count - len(members))

    steps = iter(range(1, 10**9, 4))

    def publish(crowd: Crowd, viewers: list[Viewer]) -> None:
        made = event(next(steps))
        feed.append(run.pk, metrics_event([Block(steps=made["steps"], times=made["times"], values=made["values"])]))

    try:
        yield Server(stack.web.pid, stack.port, targets, publish)
    finally:
        # An orderly end, so that the portal frees the places of its viewers.
        stack.web.terminate()
        stack.web.wait()


@contextmanager
def peer(stack: Stack, kind: str) -> Iterator[Server]:
    port = free_port()
    arguments = [kind, str(port), str(stack.redis.socket)]
    with on_the_servers_core():
        process = subprocess.Popen([sys.executable, str(ROOT / "bench" / "support" / "fanout_peers.py"), *arguments])
    steps = iter(range(1, 10**9, 4))

    def publish(crowd: Crowd, viewers: list[Viewer]) -> None:
        made = event(next(steps))
        head = {"seq": made["steps"][0], "kind": "metrics", "at": "2026-01-01T00:00:00.000Z", "attempt": 1}
        crowd.say(viewers[0], json.dumps({"publish": head | {"blocks": [made]}}))

    try:
        yield Server(process.pid, port, lambda count: ["/"] * count, publish)
    finally:
        process.kill()
        process.wait()


def measure(server: Server, count: int, seconds: float, *, deflate: bool = False) -> Measured:
    delivered = 0

    def heard(viewer: Viewer, text: bytes, came_at: float) -> None:
        nonlocal delivered
        delivered += metrics_events_in(text)

    with Crowd(server.port, heard, remembers=deflate) as crowd:
        targets = server.targets(count)
        until = time.monotonic() + 60
        while True:  # a peer needs a moment until it listens
            try:
                first = crowd.connect(targets[0], 1)
                break
            except ConnectionError:
                if time.monotonic() > until:
                    raise
        viewers = first
        published = 0

        def go_on() -> None:
            nonlocal published
            while published * len(viewers) - delivered < UNDER_WAY * len(viewers):
                server.publish(crowd, viewers)
                published += 1
            crowd.pump(0.001)

        while published < EVENTS_BEFORE:
            go_on()
        while delivered < published:
            crowd.pump(0.001)
        empty = memory_kib(server.pid)
        viewers = first + crowd.connect_all(targets[1:])
        published = delivered = 0

        while published < WARM_UP_EVENTS:
            go_on()
        begun_cpu, begun, begun_bytes = cpu_s(server.pid), delivered, sum(viewer.bytes_read for viewer in viewers)
        until = time.monotonic() + seconds
        while time.monotonic() < until or cpu_s(server.pid) - begun_cpu < LEAST_CPU_S:
            go_on()
        reached = delivered - begun
        spent = cpu_s(server.pid) - begun_cpu
        kib = (memory_kib(server.pid) - empty) / (count - 1)
        took = sum(viewer.bytes_read for viewer in viewers) - begun_bytes
        cut = [viewer for viewer in viewers if viewer.ended_at]
        if cut:
            raise RuntimeError(f"{len(cut)} viewers were cut: {cut[0].code} {cut[0].reason}")
    return Measured(reached / spent, took / reached, kib)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(IN_EACH_ROUND))
    options = parser.parse_args()
    wanted = options.only.split(",")
    rounds: dict[tuple[str, int], list[Measured]] = defaultdict(list)
    with Stack() as stack:
        stack.migrate()
        stack.use()
        seed_project([(f"member{number}", "operator") for number in range(MEMBERS)])
        stack.start_redis()
        for _, count, name in product(range(options.rounds), SIZES, wanted):
            print(f"{name}, {count} viewers", file=sys.stderr)
            with peer(stack, name) if name in PEERS else ours(stack, unbounded=name == "unbounded") as server:
                measured = measure(server, count, options.seconds, deflate=name == "deflate")
            print(f"  {measured}", file=sys.stderr)
            rounds[name, count].append(measured)
    print(json.dumps(report({key: median_of(measured) for key, measured in rounds.items()})))
    return 0


def median_of(rounds: list[Measured]) -> Measured:
    return Measured(*(median(getattr(one, field.name) for one in rounds) for field in fields(Measured)))


def report(found: dict[tuple[str, int], Measured]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for count in SIZES:
        suffix = "" if count == SIZES[0] else f"_{count}"
        ours = found.get(("ours", count))
        if ours is None:
            continue
        figures["deliveries_per_cpu_s" + suffix] = round(ours.deliveries_per_cpu_s)
        figures["kib_per_viewer" + suffix] = round(ours.kib_per_viewer, 1)
        keys = ("floor", "broadcast", "stock_pubsub", "stock_inmemory")
        for name, key in zip(PEERS, keys, strict=True):
            if (name, count) in found:
                ratio = ours.deliveries_per_cpu_s / found[name, count].deliveries_per_cpu_s
                figures[f"vs_{key}{suffix}"] = round(ratio, 2)
        if ("stock-pubsub", count) in found:
            stock = found["stock-pubsub", count].kib_per_viewer
            figures["kib_per_viewer_vs_stock" + suffix] = round(ours.kib_per_viewer / stock, 2)
        if ("unbounded", count) in found:
            ratio = ours.deliveries_per_cpu_s / found["unbounded", count].deliveries_per_cpu_s
            figures["bounded_vs_unbounded" + suffix] = round(ratio, 2)
        if ("deflate", count) in found:
            deflate = found["deflate", count]
            figures["deflate_bytes_ratio" + suffix] = round(deflate.bytes_per_delivery / ours.bytes_per_delivery, 2)
            figures["deflate_cpu_ratio" + suffix] = round(ours.deliveries_per_cpu_s / deflate.deliveries_per_cpu_s, 2)
    return figures


if __name__ == "__main__":
    sys.exit(main())
