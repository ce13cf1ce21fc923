"""Measure the time from sending a command over a viewer's WebSocket to its outcome, with Redis and without.

usage: python bench/control_latency.py

Embedded server, Daphne and supervisor are separate processes; the training is the Transformer on the CPU. The bench
sends 200 changes of the learning rate at random moments, stops the embedded server, and sends 200 more. A command that
arrives while an epoch ends waits for evaluation and checkpoint. These are about 5 % of the commands, which would make a
95th percentile of all commands random, so the percentiles leave them out. Prints one JSON object as its last line:
step_ms             median step of the training during the measurement
p50_ms, p95_ms      sent → reported as applied, on the viewer's socket
p95_ms_no_redis     sent → applied, by the command log, because viewers then follow from the database
seen_p95_ms_no_redis  the same on the viewer's socket
waited_for_evaluation, longest_wait_ms  number of commands that met the end of an epoch, and the slowest of them
not_applied         number of commands that were not applied, of all 400
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.stack import Stack, operator_ticket, rows, seed_project  # noqa: E402
from tests.support.watcher import Watcher  # noqa: E402

COMMANDS = 200
# A step takes about 20 ms on one core, and 800 steps lie between two evaluations. A command that arrives during an
# evaluation waits for its end.
RECIPE = "transformer"
PARAMETERS = {"batch_size": 8, "epochs": 10_000, "save_every": 10_000, "sample_length": 0, "threads": 1}
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 0.5
WARM_UP_STEPS = 100
CATCH_UP_TIMEOUT_S = 30


class Sender:
    """Sends commands through one viewer's socket, and records when the portal reports each as applied."""

    knob = "learning_rate"
    values = (2e-3, 1e-3)

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.sent: dict[str, float] = {}
        self.seen: dict[str, float] = {}
        watcher.on_event = self._note

    def _note(self, event: dict[str, Any]) -> None:
        if event["kind"] == "command" and event["state"] == "applied":
            self.seen.setdefault(event["id"], time.time())

    async def send(self, number: int) -> list[str]:
        """Send `number` commands at random moments, wait for their outcomes, and return their ids."""
        ids = []
        for place in range(number):
            await asyncio.sleep(random.uniform(SHORTEST_PAUSE_S, LONGEST_PAUSE_S))
            ids.append(str(uuid4()))
            arguments = {"knob": self.knob, "value": self.values[place % 2]}
            self.sent[ids[-1]] = time.time()
            await self.watcher.send({"command": "set_knob", "id": ids[-1], "arguments": arguments})
        until = time.monotonic() + CATCH_UP_TIMEOUT_S
        while time.monotonic() < until and not all(key in self.seen for key in ids):
            await asyncio.sleep(0.1)
        return ids

    def delays_ms(self, ids: list[str]) -> list[float]:
        return [(self.seen[key] - self.sent[key]) * 1000 for key in ids if key in self.seen]

    def part_by_evaluation(self, ids: list[str]) -> tuple[list[str], list[str]]:
        """Divide the commands into those that met no end of an epoch and those that did; return the ids of both."""
        ends = epoch_ends(self.watcher)
        met = [key for key in ids if any(begin < self.seen.get(key, 0) and self.sent[key] < end for begin, end in ends)]
        return [key for key in ids if key not in met], met


async def measure(stack: Stack, run_id: int, ticket: str) -> tuple[Sender, list[str], list[str]]:
    watcher = Watcher(stack.address, run_id, lambda: ticket)
    following = asyncio.create_task(watcher.follow())
    while not watcher.hello:
        await asyncio.sleep(0.05)
    training = stack.train(run_id, "--quiet")
    while len(watcher.steps("train/loss")) < WARM_UP_STEPS:
        if training.poll() is not None:
            raise RuntimeError(f"the training ended:\n{stack.log()}")
        await asyncio.sleep(0.1)
    sender = Sender(watcher)
    print(f"{COMMANDS} commands with the channel layer", file=sys.stderr)
    with_redis = await sender.send(COMMANDS)
    stack.redis.stop()
    print(f"{COMMANDS} commands without it", file=sys.stderr)
    while "database" not in watcher.links:
        await asyncio.sleep(0.1)
    without_redis = await sender.send(COMMANDS)
    await watcher.stop()
    await following
    return sender, with_redis, without_redis


def by_command_log_ms(stack: Stack, ids: list[str]) -> list[float]:
    """Return, for each command, the time from storing the command to storing its outcome."""
    found = rows(stack, "SELECT id, sent_at, applied_at FROM runs_command WHERE state = 'applied'")
    moments = {row["id"]: (_moment(row["sent_at"]), _moment(row["applied_at"])) for row in found}
    return [(applied - sent) * 1000 for key in ids for sent, applied in [moments[key.replace("-", "")]]]


def _moment(stored: Any) -> float:
    return (stored if isinstance(stored, datetime) else datetime.fromisoformat(stored)).timestamp()


def moments_by_step(watcher: Watcher) -> dict[int, float]:
    """Return the time at which the training logged each step."""
    return {
        step: moment
        for event in watcher.events
        if event["kind"] == "metrics"
        for block in event["blocks"]
        if "train/loss" in block["values"]
        for step, moment in zip(block["steps"], block["times"], strict=True)
    }


def epoch_ends(watcher: Watcher) -> list[tuple[float, float]]:
    """Return, for each epoch, when its last step and the first step of the next epoch were logged."""
    moments = moments_by_step(watcher)
    last_steps = [event["step"] for event in watcher.events if event["kind"] == "epoch"]
    return [(moments[step], moments.get(step + 1, float("inf"))) for step in last_steps]


def step_ms(watcher: Watcher) -> float:
    """Return the median time between two points of the training."""
    times = list(moments_by_step(watcher).values())
    return statistics.median((later - earlier) * 1000 for earlier, later in pairwise(times))


def main() -> int:
    with Stack() as stack:
        print("starting embedded server, Daphne and the training", file=sys.stderr)
        stack.migrate()
        stack.use()
        seed_project()
        arguments = [word for name, value in PARAMETERS.items() for word in ("--set", f"{name}={value}")]
        words = ("create_run", "--quiet", "--project", "lab", "--recipe", RECIPE, "--device", "cpu")
        created = stack.manage(*words, *arguments)
        run_id = int(created.stdout)
        stack.start_redis()
        stack.start_web()
        sender, with_redis, without_redis = asyncio.run(measure(stack, run_id, operator_ticket(run_id)))
        with_redis, waited = sender.part_by_evaluation(with_redis)
        without_redis, waited_without = sender.part_by_evaluation(without_redis)
        waits_ms = sender.delays_ms(waited + waited_without)
        seen = statistics.quantiles(sender.delays_ms(with_redis), n=100)
        command_log = statistics.quantiles(by_command_log_ms(stack, with_redis), n=100)
        seen_without = statistics.quantiles(sender.delays_ms(without_redis), n=100)
        command_log_without = statistics.quantiles(by_command_log_ms(stack, without_redis), n=100)
        print(
            json.dumps(
                {
                    "step_ms": round(step_ms(sender.watcher), 1),
                    "p50_ms": round(seen[49], 1),
                    "p95_ms": round(seen[94], 1),
                    "p95_ms_no_redis": round(command_log_without[94], 1),
                    "command_log_p95_ms": round(command_log[94], 1),
                    "seen_p95_ms_no_redis": round(seen_without[94], 1),
                    "waited_for_evaluation": len(waits_ms),
                    "longest_wait_ms": round(max(waits_ms, default=0.0), 1),
                    "not_applied": 2 * COMMANDS - len(sender.seen),
                    "commands": 2 * COMMANDS,
                }
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
