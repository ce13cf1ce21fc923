"""Connect a host side and a record side by a faulty socket, kill both ends, and count what is lost, doubled or late.

usage: python -m tests.chaos.interface [--over socket] [--faults 200] [--points 50000] [--commands 200] [--seed N]

A training logs points and takes commands. Its host side runs in a virtual environment without Django, its record side
in a process of its own, and the bytes between them are cut, delayed, repeated and reordered; old messages arrive again,
also of a host side that is gone. Either end is killed with -9 and starts anew from its files or rows. With `--over
websocket` a portal and `manage.py record` are at the other end. Prints progress to stderr and one JSON object as its
last line.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.killing import stored_points
from tests.support.stack import ROOT, Stack, create_run, seed_project, wait_for

WRONG = ("lost", "doubled", "applied_twice", "delivered_after_expiry", "commands_open")
MOST_OPEN_COMMANDS = 3
ROUND_S = 0.05
# How many messages both ends exchange before one of them is killed.
MESSAGES_BEFORE_A_KILL = 40
SETTINGS = {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"}


class Interface:
    """One run, its training, and the two ends that follow it."""

    ends: tuple[str, ...] = ("host", "record")

    def __init__(self, stack: Stack, rng: random.Random, points: int) -> None:
        from steersman.agent.folders import WorkerProcess
        from tests.chaos.link.way import Way
        from tests.support.hosts.bare_environment import bare_environment

        self._stack, self._rng = stack, rng
        self._folder = stack.folder / "attempt"
        self._folder.mkdir()
        self._front, self._behind = stack.folder / "front", stack.folder / "behind"
        self._lease = self._open()
        self.way = Way(self._front, self._behind, rng)
        self._python = bare_environment(stack.folder / "host environment")
        self._log = (stack.folder / "ends.log").open("ab")
        self._training = self._start("training", str(self._folder), str(points))
        WorkerProcess.of(self._training.pid).record(self._folder)
        self._ends = {end: self._start_end(end) for end in self.ends}
        self._kills = self._messages_then = 0
        self._commands = 0

    def run(self, faults: int, points: int, commands: int) -> dict[str, int]:
        from runs.models import Attempt

        told = 0
        while True:
            step = Attempt.objects.values_list("last_step", flat=True).get(pk=self._lease.attempt_id)
            if self._faults >= faults and step >= points and self._commands >= commands:
                break
            self._disturb()
            self._ask()
            # A round of the training, not a wait for a condition.
            time.sleep(ROUND_S)
            if self._faults // 20 > told:
                told = self._faults // 20
                print(f"{self._faults} faults, {step} points, {self._commands} commands", file=sys.stderr)
        self.way.is_faulty = False
        wait_for(lambda: self._open_commands() == 0 or self._restarted(), "all commands to end", timeout_s=60)
        (self._folder / "enough").touch()
        wait_for(lambda: self._training.poll() is not None, "the training to end", timeout_s=60)
        wait_for(self._host_has_ended, lambda: f"the host side to end\n{self.log()}", timeout_s=60)
        for end in self.ends[1:]:
            self._ends[end].kill()
        return self._judge()

    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text()[-5000:]

    @property
    def _faults(self) -> int:
        return self.way.faults.total() + self._kills

    def _open(self) -> Any:
        """Return the lease of the attempt, and let its record side be reached at `self._behind`."""
        from runs.recording.lifecycle import Holder, open_attempt

        return open_attempt(create_run(self._stack, "interface"), Holder("host", "boot", 1), 0, command_line=[])

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process that does not use Django."""
        command = [str(self._python), "-m", f"tests.chaos.link.{name}", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, stdout=self._log, stderr=self._log)
        self._stack.trainings.append(process)
        return process

    def _start_end(self, end: str) -> subprocess.Popen[bytes]:
        if end == "host":
            return self._start("host_end", str(self._folder), str(self._front))
        self._behind.unlink(missing_ok=True)
        lease = (str(self._lease.run_id), str(self._lease.attempt_id), str(self._lease.number))
        command = [sys.executable, "-m", "tests.chaos.link.record_end", str(self._behind), *lease]
        process = subprocess.Popen(
            command, cwd=ROOT, env=self._stack.environment | SETTINGS, stdout=self._log, stderr=self._log
        )
        self._stack.trainings.append(process)
        return process

    def _disturb(self) -> None:
        """Kill one of the ends now and then, and restart a missing one."""
        if self.way.messages > self._messages_then + MESSAGES_BEFORE_A_KILL:
            self._messages_then = self.way.messages
            end = self._ends[self._rng.choice(self.ends)]
            end.kill()
            end.wait()
            self._kills += 1
        self._restarted()

    def _restarted(self) -> bool:
        for end, process in self._ends.items():
            if process.poll() is not None:
                assert process.returncode == -9, f"the {end} end ended with {process.returncode}\n{self.log()}"
                self._ends[end] = self._start_end(end)
        return False

    def _host_has_ended(self) -> bool:
        code = self._ends["host"].poll()
        assert code in (None, 0), f"the host side ended with {code}\n{self.log()}"
        return code == 0

    def _open_commands(self) -> int:
        from runs.models import Command
        from runs.recording.lifecycle import UNSETTLED

        return Command.objects.filter(run_id=self._lease.run_id, state__in=UNSETTLED).count()

    def _ask(self) -> None:
        """Send a command; some expire before they can arrive."""
        from django.db.models.functions import Now

        from runs.commands.record import record
        from runs.models import Command, CommandState
        from runs.protocol.commands import parse_command

        if self._open_commands() >= MOST_OPEN_COMMANDS:
            return
        fields: dict[str, Any] = {"expires_in_s": 600} if self._rng.random() < 0.5 else {}
        request = parse_command({"command": "stop", **fields})
        record(self._lease.run_id, request, author_id=None, author_name="Ada")
        self._commands += 1
        if fields and self._rng.random() < 0.5:
            sent = Command.objects.filter(pk=request.id, state=CommandState.SENT)
            sent.update(expires_at=Now() - timedelta(seconds=1))

    def _judge(self) -> dict[str, int]:
        from runs.models import Attempt, Command, Run
        from runs.recording.lifecycle import UNSETTLED

        run = Run.objects.get(pk=self._lease.run_id)
        stored = Counter(step for _, _, step, _ in stored_points(run.pk, "train/loss"))
        states = Counter(Command.objects.filter(run_id=run.pk).values_list("state", flat=True))
        taken = [line.split() for line in (self._folder / "taken").read_text().splitlines()]
        applied = Counter(command for command, state in taken if state == "applied")
        # What the training wrote, and not what was stored: the end may be missing.
        steps = int((self._folder / "logged").read_text())
        return {
            "faults": self._faults,
            "kills": self._kills,
            "messages": self.way.messages,
            "reports": Attempt.objects.values_list("reports", flat=True).get(pk=self._lease.attempt_id),
            "points": steps,
            "commands": self._commands,
            "lost": sum(step not in stored for step in range(1, steps + 1)),
            "doubled": sum(count - 1 for count in stored.values()),
            "applied_twice": sum(count - 1 for count in Counter(command for command, _ in taken).values()),
            "delivered_after_expiry": self.way.late_posts,
            "commands_open": sum(states[state] for state in UNSETTLED),
            "finished": int(run.state == "finished"),
            "commands_taken": len(applied),
            **{f"commands_{state}": count for state, count in sorted(states.items()) if state not in UNSETTLED},
            **{f"fault_{name.replace(' ', '_')}": count for name, count in sorted(self.way.faults.items())},
        }


def run_interface(over: str, faults: int, points: int, commands: int, seed: int) -> dict[str, int]:
    with Stack(STEERSMAN_PUSH_MS="20") as stack:
        stack.migrate()
        stack.use()
        seed_project()
        stack.start_redis()
        return kind_of(over)(stack, random.Random(seed), points).run(faults, points, commands)


def kind_of(over: str) -> type[Interface]:
    if over == "socket":
        return Interface
    from tests.chaos.link.over_websocket import OverWebSocket

    return OverWebSocket


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--over", choices=("socket", "websocket"), default="socket")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    result = run_interface(arguments.over, arguments.faults, arguments.points, arguments.commands, arguments.seed)
    print(json.dumps({"over": arguments.over, "seed": arguments.seed, **result}))
    return int(any(result[name] for name in WRONG) or not result["finished"])


if __name__ == "__main__":
    sys.exit(main())
