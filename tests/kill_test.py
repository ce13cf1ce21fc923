"""Kill worker, supervisor, web server and embedded server with -9 at random moments; count what is lost or doubled.

usage: python tests/kill_test.py [--kills 50] [--seed N]

What a worker noted after each `log()` is held against the database and against what a WebSocket client
received over all its reconnects. Prints progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.stack import Stack, kill, seed_project, wait_for  # noqa: E402
from tests.watcher import Watcher  # noqa: E402

PAUSE_S = 0.005
ENDLESS = 10_000_000
TARGETS = ("worker", "supervisor", "both", "web", "redis")
WORKER = Path(__file__).parent / "workers" / "noting.py"


class Killing:
    """One run under fire."""

    def __init__(self, stack: Stack, run_id: int, rng: random.Random) -> None:
        self.stack = stack
        self.run_id = run_id
        self.rng = rng
        self.note = stack.folder / "note"
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.killed: Counter[str] = Counter()

    def ensure_training(self) -> None:
        if self.supervisor is None or self.supervisor.poll() is not None:
            self.supervisor = self.stack.train(
                self.run_id, "--quiet", "--", str(WORKER), str(self.note), str(ENDLESS), str(PAUSE_S)
            )

    def noted(self) -> list[int]:
        data = self.note.read_bytes() if self.note.exists() else b""
        return [step for (step,) in struct.iter_unpack("<q", data[: len(data) // 8 * 8])]

    def kill_one(self, target: str) -> None:
        """Kill the target at a random moment, once there is something new to lose; then bring it back."""
        seen = len(self.noted())
        wait_for(lambda: self._progressed(seen), "the worker to log")
        time.sleep(self.rng.uniform(0, 0.4))
        if target in ("worker", "both"):
            worker = self.stack.worker_pid(self.run_id)
            if worker:
                kill(worker)
        if target in ("supervisor", "both") and self.supervisor is not None:
            self.supervisor.kill()
            self.supervisor.wait()
        if target == "web" and self.stack.web is not None:
            self.stack.web.kill()
            self.stack.web.wait()
            self.stack.start_web()
        if target == "redis" and self.stack.redis.pid:
            kill(self.stack.redis.pid)
            wait_for(lambda: not self.stack.redis.is_alive, "the embedded server to die")
            time.sleep(self.rng.uniform(0, 0.5))
            self.stack.start_redis()
        self.killed[target] += 1

    def _progressed(self, seen: int) -> bool:
        self.ensure_training()
        return len(self.noted()) > seen

    def stop(self) -> None:
        """Ask the run to stop as an operator would, and wait until it is recorded."""
        from uuid import uuid4

        from runs.asking import record
        from runs.commands import Request, Stop
        from runs.models import Run

        wait_for(lambda: self._progressed(len(self.noted())), "the worker to log")

        def stopped() -> bool:
            run = Run.objects.get(pk=self.run_id)
            if run.state == "running":
                record(self.run_id, Request(id=uuid4(), command=Stop()), author_id=None, author_name="kill test")
            return run.state == "stopped"

        until = time.monotonic() + 60
        while not stopped():
            if time.monotonic() > until:
                raise TimeoutError(f"the run did not stop\n{self.stack.log()}")
            time.sleep(0.5)
        if self.supervisor is not None:
            self.supervisor.wait(30)


def stored_steps(run_id: int) -> list[int]:
    """Return every stored step of the worker's series, of all attempts, doubles included."""
    from runs.series import read_points

    return [int(step) for points in read_points(run_id, "value").values() for step in points.steps]


def run_kills(kills: int, seed: int) -> dict[str, int]:
    rng = random.Random(seed)
    with Stack() as stack:
        stack.migrate()
        stack.use()
        from django.contrib.auth.models import User
        from django.db import connection

        from runs.models import Attempt, Run
        from runs.tickets import issue_ticket

        project = seed_project()
        run = Run.objects.create(project=project, name="kill test")
        user = User.objects.get(username="operator")

        def ticket() -> str:
            try:
                return issue_ticket(user, run)
            finally:
                connection.close()

        stack.start_redis()
        stack.start_web()
        killing = Killing(stack, run.pk, rng)
        watcher = Watcher(stack.address, run.pk, ticket)
        loop = asyncio.new_event_loop()
        following = threading.Thread(target=lambda: loop.run_until_complete(watcher.follow()), daemon=True)
        following.start()
        wait_for(lambda: watcher.connections, "the viewer to connect")
        for number in range(kills):
            target = TARGETS[number % len(TARGETS)] if number < len(TARGETS) else rng.choice(TARGETS)
            killing.kill_one(target)
            print(f"kill {number + 1}/{kills}: {target}, {len(killing.noted())} steps noted", file=sys.stderr)
        killing.stop()
        last = Run.objects.get(pk=run.pk).last_seq
        wait_for(lambda: watcher.last_seq >= last, "the viewer to catch up")
        asyncio.run_coroutine_threadsafe(watcher.stop(), loop)
        following.join(10)

        noted, stored = killing.noted(), Counter(stored_steps(run.pk))
        seen = Counter(watcher.steps("value"))
        numbers = [event["seq"] for event in watcher.events]
        first = watcher.resyncs[0] if watcher.resyncs else 0
        # A viewer that had to load history again (more missed than is replayed) finds it there.
        reloaded = set(stored) if len(watcher.resyncs) > 1 else set()
        result = {
            "kills": sum(killing.killed.values()),
            "lost": sum(1 for step in noted if step not in stored),
            "doubled": sum(count - 1 for count in stored.values()),
            "unreadable": sum(Attempt.objects.filter(run=run).values_list("unreadable_records", flat=True)),
            "viewer_missing": sum(1 for step in noted if step not in seen and step not in reloaded),
            "viewer_doubled": sum(count - 1 for count in seen.values()) + len(numbers) - len(set(numbers)),
            "viewer_gaps": 0 if reloaded else last - first - len(numbers),
            "viewer_reloads": len(watcher.resyncs) - 1,
            "points": len(noted),
            "attempts": Attempt.objects.filter(run=run).count(),
            "adoptions": sum(Attempt.objects.filter(run=run).values_list("adoptions", flat=True)),
            "connections": watcher.connections,
            **{f"killed_{target}": count for target, count in sorted(killing.killed.items())},
        }
        return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    result = run_kills(arguments.kills, arguments.seed)
    print(json.dumps({"seed": arguments.seed, **result}))
    wrong = ("lost", "doubled", "unreadable", "viewer_missing", "viewer_doubled", "viewer_gaps")
    return int(any(result[name] for name in wrong))


if __name__ == "__main__":
    sys.exit(main())
