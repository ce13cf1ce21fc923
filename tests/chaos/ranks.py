"""Send random commands to gloo ranks and compare what the ranks did; then kill one rank and check that all others end.

usage: python -m tests.chaos.ranks [--ranks 4] [--commands 50] [--seed N] [--nodes 1]

With several nodes, torchrun starts that many ranks on each. The nodes share their data folder; where this user may
create namespaces, a node cannot see the processes of the others.

Prints progress to stderr and one JSON object as its last line: `commands` counts those with an outcome; `step_differs`
counts actions that the ranks did not all do at the same step boundary with the same value, or not at the step of the
command log; `processes_left` counts processes that live 10 s after one rank was killed with SIGKILL.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from tests.support.nodes import processes, start_nodes, worker_of
from tests.support.stack import ROOT, Stack, rows, run_row, seed_project, wait_for

WORKER = ROOT / "tests" / "trainings" / "gloo.py"
KNOBS = ("rate", "layers", "mode")
PAUSE_S = 0.01
GONE_AFTER_S = 10.0
MOST_OPEN = 4


def random_command(rng: random.Random, step: int, paused: bool) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return a command's name, arguments and further fields; the run must refuse some of them."""
    later = {"step": step + rng.randrange(30, 90)} if rng.random() < 0.2 and not paused else {}
    if not later and rng.random() < 0.05:
        later = {"epoch": step // 20 + 2}
    draw = rng.random()
    if draw < 0.45:
        return "set_knob", {"knob": "rate", "value": round(rng.uniform(-0.1, 1.1), 4)}, later
    if draw < 0.60:
        return "set_knob", {"knob": "layers", "value": rng.choice([3, 7, 13, 13, 21])}, later
    if draw < 0.68:
        return "set_knob", {"knob": "mode", "value": rng.choice(["slow", "fast"])}, {}
    if draw < 0.76:
        return "save_checkpoint", {"name": f"c{rng.randrange(99)}"}, {}
    if draw < 0.84:
        return "evaluate", {}, {}
    return "resume" if paused or rng.random() < 0.2 else "pause", {}, {}


class Ranks:
    """One run of several ranks under random commands."""

    def __init__(self, stack: Stack, run_id: int, ranks: int, nodes: int, rng: random.Random) -> None:
        self.stack = stack
        self.run_id = run_id
        self.ranks = ranks
        self.nodes = nodes
        self.rng = rng
        self.notes = stack.folder / "notes"
        self.sent = 0
        self.supervisor: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [str(WORKER), str(self.notes), str(PAUSE_S)]
        if self.nodes > 1:
            start_nodes(self.stack, self.run_id, [self.ranks // self.nodes] * self.nodes, *words)
        else:
            self.supervisor = self.stack.train(self.run_id, "--quiet", "--nproc", str(self.ranks), "--", *words)
        wait_for(lambda: run_row(self.stack, self.run_id)["step"] > 5, lambda: f"steps\n{self.stack.log()}", 120)

    def ask(self, command: str, arguments: dict[str, Any], later: dict[str, int]) -> None:
        from runs.commands.record import record
        from runs.protocol.commands import parse_command

        payload = {"command": command, "arguments": arguments, "at": later}
        record(self.run_id, parse_command(payload), author_id=None, author_name="ranks_test")
        self.sent += 1

    def open(self) -> list[dict[str, Any]]:
        query = "SELECT * FROM runs_command WHERE run_id = ? AND state IN ('sent', 'delivered')"
        return rows(self.stack, query, self.run_id)

    def send(self, commands: int) -> None:
        for number in range(commands):
            run = run_row(self.stack, self.run_id)
            self.ask(*random_command(self.rng, run["step"], run["state"] == "paused"))
            time.sleep(self.rng.choice((0.0, 0.0, 0.05, 0.3)))
            # A paused run would never do the commands for later steps.
            if number % 7 == 6 and run_row(self.stack, self.run_id)["state"] == "paused":
                self.ask("resume", {}, {})
            wait_for(lambda: len(self.open()) <= MOST_OPEN, lambda: f"outcomes\n{self.stack.log()}")
            print(f"{number + 1}/{commands} commands, step {run['step']}", file=sys.stderr)
        wait_for(self._went_on, "the ranks to run")
        wait_for(lambda: not self.open(), lambda: f"the last outcomes\n{self.stack.log()}")

    def _went_on(self) -> bool:
        if run_row(self.stack, self.run_id)["state"] != "paused":
            return True
        if not self.open():
            self.ask("resume", {}, {})
        return False

    def noted(self) -> list[Counter[tuple[int, int, str, str]]]:
        """Return what each rank did: step boundary, step, action and value; for a knob, the value that remained."""
        found = []
        for rank in range(self.ranks):
            done: Counter[tuple[int, int, str, str]] = Counter()
            left: dict[tuple[int, int, str], str] = {}
            for line in Path(f"{self.notes}-{rank}").read_text().splitlines():
                noted = json.loads(line)
                place = noted["point"], noted["step"], noted["what"]
                if noted["what"] in KNOBS:
                    left[place] = json.dumps(noted["value"])
                else:
                    done[(*place, json.dumps(noted["value"]))] += 1
            found.append(done + Counter((*place, value) for place, value in left.items()))
        return found

    def differing(self) -> int:
        """Count actions that not all ranks did alike, and applied commands that no rank did at their step."""
        noted = self.noted()
        everywhere = noted[0]
        anywhere = noted[0]
        for of_rank in noted[1:]:
            everywhere, anywhere = everywhere & of_rank, anywhere | of_rank
        wrong = sum((anywhere - everywhere).values())
        done = {(step, what, value) for _, step, what, value in everywhere}
        applied = "SELECT * FROM runs_command WHERE run_id = ? AND state = 'applied'"
        for command in rows(self.stack, applied, self.run_id):
            wrong += command["ranks"] != self.ranks
            if command["kind"] == "set_knob":
                arguments = json.loads(command["arguments"])
                # Of two commands at one step, the later one's value remains.
                wrong += not any(step == command["step"] and what == arguments["knob"] for step, what, _ in done)
        return wrong

    def kill_one(self) -> int:
        """Kill the worker of a rank with SIGKILL; return how many processes of the run live when it must be over."""
        folder = self.stack.data / "runs" / str(self.run_id) / "attempts" / "1"
        worker_of(self.stack, self.run_id, self.ranks - 1).kill()
        began = time.monotonic()

        def count() -> int:
            return len(processes(self.stack, self.run_id)) if self.nodes > 1 else living(folder, self.supervisor)

        while (left := count()) and time.monotonic() - began < GONE_AFTER_S:
            time.sleep(0.1)
        print(f"{left} processes left after {time.monotonic() - began:.1f} s", file=sys.stderr)
        return left


def living(folder: Path, supervisor: subprocess.Popen[bytes] | None) -> int:
    """Count the processes whose environment names this attempt, and the supervisor."""
    count = int(supervisor is not None and supervisor.poll() is None)
    for process in psutil.process_iter():
        try:
            count += process.environ().get("STEERSMAN_ATTEMPT_FOLDER") == str(folder)
        except psutil.Error:
            continue
    return count


def states(stack: Stack, run_id: int) -> Counter[str]:
    query = "SELECT state FROM runs_command WHERE run_id = ?"
    return Counter(row["state"] for row in rows(stack, query, run_id))


def run_test(ranks: int, commands: int, seed: int, nodes: int = 1) -> dict[str, Any]:
    with Stack() as stack:
        stack.migrate()
        stack.use()
        project = seed_project()
        from runs.models import Run

        run = Run.objects.create(project=project, name="ranks", device="cpu")
        several = Ranks(stack, run.pk, ranks, nodes, random.Random(seed))
        several.start()
        several.send(commands)
        ended = states(stack, run.pk)
        differs = several.differing()
        left = several.kill_one()
        row = run_row(stack, run.pk)
        return {
            "ranks": ranks,
            "nodes": nodes,
            "commands": ended["applied"] + ended["refused"] + ended["expired"],
            "applied": ended["applied"],
            "refused": ended["refused"],
            "expired": ended["expired"],
            "step_differs": differs,
            "processes_left": left,
            "state": row["state"],
            "reason": row["reason"],
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--commands", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=1)
    options = parser.parse_args()
    if options.ranks % options.nodes:
        parser.error("give as many ranks to each node")
    result = run_test(options.ranks, options.commands, options.seed, options.nodes)
    print(json.dumps(result))
    good = result["commands"] >= options.commands and not result["step_differs"] and not result["processes_left"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
