"""One run on a training host, the faults that happen to it, and what is wrong at its end."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from steersman.agent.links.connections import AUTO, HTTPS, LINK_VARIABLE
from tests.chaos.remote.failing_link import FailingLink
from tests.chaos.remote.network import OURS, Network
from tests.outage.frozen_postgres import Server
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.locked_database import write_locked
from tests.support.stack import Found, Stack, wait_for

WRONG = ("lost", "doubled", "applied_twice", "commands_lost", "commands_open", "delivered_after_expiry", "taken_late")
OF_EACH = ("link", "portal", "record", "host", "database", "worker")
OF_DATABASE = ("restarted",)
PATIENCE_S = 60.0
MOST_OPEN_COMMANDS = 3
# Some commands expire after so many seconds, about as long as a fault lasts.
SHORT_EXPIRY_S = 1.0
# From the decision of the training that a command has not expired until its handler reads the clock.
READS_CLOCK_WITHIN_S = 0.5
ENDED_FIRST = "The attempt ended before the command took effect."
# Notes a step once `log` has returned. A step that is not noted may be stored: it is not used again.
TRAINING = """
import os
import time
import steersman

run = steersman.attach()
taken = open("taken", "a", buffering=1)
noted = open("noted", "a+b", buffering=0)
run.on("save_checkpoint", lambda arguments: taken.write(f"{arguments['name']} {time.time()}\\n"))
noted.seek(max(0, noted.seek(0, os.SEEK_END) - 100))
steps = noted.read().split()
step = int(steps[-1]) + 1 if steps else 0
run.begin_at(step)
while not run.stopping:
    step += 1
    run.step = step
    run.log(step, {"train/loss": 1.0 / step})
    noted.write(b"%d\\n" % step)
    time.sleep(0.002)
"""


class Link(Protocol):
    def cut(self) -> None: ...
    def mend(self) -> None: ...


class RemoteRun:
    """A run of `steersman run`, with the processes and the link that it needs."""

    def __init__(
        self,
        stack: Stack,
        rng: random.Random,
        longest_s: float,
        once_s: float,
        network: Network | None,
        server: Server | None,
        *,
        over_requests: bool = False,
    ) -> None:
        """`server` is the database, None for SQLite; `network` that of the host, None for that of this machine.

        The host reports over long requests instead of a WebSocket if `over_requests`.
        """
        self._stack, self._rng, self._longest_s, self._once_s = stack, rng, longest_s, once_s
        self._server = server
        self._portal = Portal(stack)
        self._portal.start()
        at = OURS if network is not None else "127.0.0.1"
        self._way = FailingLink(stack.port, random.Random(rng.random()), at, only_requests=over_requests)
        self._link: Link = network or self._way
        self._host = TrainingHost(stack, stack.folder / "host")
        self._host.script(TRAINING)
        if network is not None:
            self._host.prefix = network.prefix
        address = f"http://{at}:{self._way.port}"
        words = ("run", "--restarts", "100", "--", "python", "train.py")
        link = HTTPS if over_requests else AUTO
        self._command = self._host.start(*words, STEERSMAN_PORTAL=address, **{LINK_VARIABLE: link})
        self._faults: Counter[str] = Counter()
        # The commands by their names, which the training notes.
        self._sent = 0
        self._noted_at_kill = 0
        self._run_id = self._await(self._opened, "the run")

    def run(self, faults: int) -> dict[str, int]:
        kinds = OF_EACH + OF_DATABASE if self._server is not None else OF_EACH
        coming: list[str] = []
        while self._faults.total() < faults:
            # Each kind comes before one comes again.
            coming = coming or self._rng.sample(kinds, len(kinds))
            self._goes_on()
            self._ask()
            self._fail(coming.pop())
            print(f"{self._faults.total()} faults", file=sys.stderr)
        self._goes_on()
        self._await(lambda: not self._open_commands() and self._trains(), "all commands to end")
        self._send("stop")
        code = self._command.wait(PATIENCE_S)
        assert code == 0, f"steersman run ended with {code}\n{self._host.printed()}"
        return self._judge()

    def close(self) -> None:
        self._host.close()
        self._way.close()

    def _await(self, look: Callable[[], Found | None], what: str) -> Found:
        """Wait with an error that has all logs."""
        try:
            return wait_for(look, what, PATIENCE_S)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self._host.printed()[-4000:]}\n{self._stack.log()}") from error

    def _opened(self) -> int | None:
        from runs.models import Run

        return Run.objects.filter(name="train.py").values_list("pk", flat=True).first()

    def _trains(self) -> bool:
        from runs.models import Run

        return Run.objects.filter(pk=self._run_id, state="running").exists()

    def _goes_on(self) -> None:
        """Wait until something new is stored."""
        from runs.models import Run

        def step() -> int:
            return Run.objects.values_list("step", flat=True).get(pk=self._run_id)

        before = step()
        self._await(lambda: step() > before, "new points")

    def _fail(self, fault: str) -> None:
        self._faults[fault] += 1
        if fault == "link":
            self._link.cut()
            # The link is down for a time, which is the fault.
            down_s = self._once_s or self._rng.uniform(0.1, self._longest_s)
            time.sleep(down_s / 2)
            self._ask()
            time.sleep(down_s / 2)
            self._once_s = 0.0
            self._link.mend()
        elif fault == "database":
            with write_locked(self._stack, self._run_id):
                time.sleep(self._rng.uniform(0.1, self._longest_s))
        elif fault == "restarted":
            self._restart_database()
        elif fault == "host":
            killed = self._host.kill_host_process()
            self._await(lambda: self._host.host_process not in (None, killed), "another host process")
        elif fault == "worker":
            self._kill_worker()
        else:
            self._portal.restart(fault)

    def _restart_database(self) -> None:
        from django.db import Error, connection

        assert self._server is not None
        self._server.stop()
        time.sleep(self._rng.uniform(0.1, self._longest_s))
        self._server.start()

        def answers() -> bool:
            try:
                self._opened()
            except Error:
                connection.close()
                return False
            return True

        self._await(answers, "the database")

    def _kill_worker(self) -> None:
        """Kill the training once it has noted something since it was killed last: the same fault twice ends a run."""
        self._await(lambda: len(self._noted()) > self._noted_at_kill, "the training to go on")
        attempts = [int(each.name) for each in (self._host.launch / "attempts").iterdir()]
        # The restart is not awaited: the next fault may come before it.
        os.kill(self._host.worker(max(attempts)), signal.SIGKILL)
        self._noted_at_kill = len(self._noted())

    def _noted(self) -> list[int]:
        """Return the steps that the training has noted."""
        path = self._host.folder / "noted"
        return [int(line) for line in path.read_bytes().split()] if path.exists() else []

    def _ask(self) -> None:
        if self._open_commands() < MOST_OPEN_COMMANDS and self._trains():
            expiry: dict[str, Any] = {"expires_in_s": SHORT_EXPIRY_S} if self._rng.random() < 0.5 else {}
            self._send("save_checkpoint", arguments={"name": f"c{self._sent}"}, **expiry)
            self._sent += 1

    def _send(self, command: str, **fields: Any) -> None:
        from runs.commands.record import record
        from runs.protocol.commands import parse_command

        request = parse_command({"command": command, **fields})
        record(self._run_id, request, author_id=None, author_name="Ada")

    def _open_commands(self) -> int:
        from runs.models import Command
        from runs.recording.lifecycle import UNSETTLED

        return Command.objects.filter(run_id=self._run_id, state__in=UNSETTLED).count()

    def _judge(self) -> dict[str, int]:
        from runs.models import Attempt, Run
        from tests.support.killing import stored_points

        run = Run.objects.get(pk=self._run_id)
        stored = Counter(step for _, _, step, _ in stored_points(run.pk, "train/loss"))
        noted = self._noted()
        return {
            "faults": self._faults.total(),
            "reports": sum(Attempt.objects.filter(run_id=run.pk).values_list("reports", flat=True)),
            "points": len(noted),
            "lost": sum(step not in stored for step in noted),
            "doubled": sum(count - 1 for count in stored.values()),
            **self._judge_commands(run.attempt),
            "commands_open": self._open_commands(),
            "attempts": run.attempt,
            "stopped": int(run.state == "stopped"),
            "repeated": self._way.repeated,
            **{f"fault_{name}": count for name, count in sorted(self._faults.items())},
        }

    def _judge_commands(self, last_attempt: int) -> dict[str, int]:
        from runs.models import Command, CommandState

        lines = [line.split() for line in (self._host.folder / "taken").read_text().splitlines()]
        taken = Counter(name for name, _ in lines)
        taken_at = {name: float(moment) for name, moment in lines}
        found: Counter[str] = Counter()
        for command in Command.objects.filter(run_id=self._run_id, kind="save_checkpoint"):
            name = command.arguments["name"]
            found["commands"] += 1
            found[f"commands_{command.state}"] += 1
            found["applied_twice"] += max(0, taken[name] - 1)
            if command.state == CommandState.APPLIED:
                found["commands_lost"] += not taken[name]
            elif command.outcome == ENDED_FIRST:
                # Only a training that was killed may leave a command behind; it may have been killed while it took it.
                found["commands_lost"] += command.attempt == last_attempt
            elif command.state == CommandState.EXPIRED:
                found["commands_lost"] += command.expires_at is None
                found["delivered_after_expiry"] += taken[name]
            else:
                found["commands_lost"] += not command.outcome.startswith("The run is ")
            if command.expires_at is not None and name in taken_at:
                late_s = taken_at[name] - command.expires_at.timestamp()
                if late_s > READS_CLOCK_WITHIN_S:
                    found["taken_late"] += 1
                    print(f"{name} was taken {late_s:.2f} s after it had expired", file=sys.stderr)
        names = ("commands", "applied_twice", "commands_lost", "delivered_after_expiry", "taken_late")
        return dict.fromkeys(names, 0) | dict(found)
