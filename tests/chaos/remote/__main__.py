"""Train by `steersman run` on a host without Django, while its link, its portal and its processes fail.

usage: python -m tests.chaos.remote [--faults 60] [--longest 10] [--once 60] [--seed N] [--network]

The faults are: the link is down for up to LONGEST seconds, the first time for ONCE seconds; the database refuses
writes; `kill -9` ends the portal, `manage.py record`, or the process on the host that records the training. One in ten
messages of the host arrives twice. With `--network` (as root), the host is in a network namespace of its own, and a
link that is down drops all packets. Without this option, a link that is down breaks the connections. Commands are sent
during the faults. The training appends a line to a file for each command that it receives.
Prints progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from typing import Any, Protocol

from tests.chaos.remote.failing_link import FailingLink
from tests.chaos.remote.network import OURS, Network, NotPermitted
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, seed_stack, wait_for, write_locked

WRONG = ("lost", "doubled", "applied_twice", "commands_lost", "commands_open")
FAULTS = ("link", "portal", "record", "host", "database")
PATIENCE_S = 60.0
MOST_OPEN_COMMANDS = 3
TRAINING = """
import time
import steersman

run = steersman.attach()
taken = open("taken", "a", buffering=1)
run.on("evaluate", lambda arguments: taken.write("evaluate\\n"))
step = 0
while not run.stopping:
    step += 1
    run.step = step
    run.log(step, {"train/loss": 1.0 / step})
    time.sleep(0.002)
"""


class Link(Protocol):
    def cut(self) -> None: ...
    def mend(self) -> None: ...


class Remote:
    """One run on a training host, and what happens to it."""

    def __init__(
        self, stack: Stack, rng: random.Random, longest_s: float, once_s: float, network: Network | None
    ) -> None:
        self._stack, self._rng, self._longest_s, self._once_s = stack, rng, longest_s, once_s
        self._portal = Portal(stack)
        self._portal.start()
        at = OURS if network is not None else "127.0.0.1"
        self._way = FailingLink(stack.port, random.Random(rng.random()), at)
        self._link: Link = network or self._way
        self._host = TrainingHost(stack, stack.folder / "host")
        self._host.script(TRAINING)
        if network is not None:
            self._host.prefix = network.prefix
        address = f"http://{at}:{self._way.port}"
        self._command = self._host.start("run", "--", "python", "train.py", STEERSMAN_PORTAL=address)
        self._faults: Counter[str] = Counter()
        self._run_id = wait_for(self._opened, lambda: f"the run\n{self._host.printed()}", PATIENCE_S)

    def run(self, faults: int) -> dict[str, int]:
        while self._faults.total() < faults:
            self._goes_on()
            self._ask()
            self._fail(self._rng.choice(FAULTS))
            print(f"{self._faults.total()} faults", file=sys.stderr)
        self._goes_on()
        wait_for(lambda: not self._open_commands(), "all commands to end", PATIENCE_S)
        self._send("stop")
        code = self._command.wait(PATIENCE_S)
        assert code == 0, f"steersman run ended with {code}\n{self._host.printed()}"
        return self._judge()

    def close(self) -> None:
        self._host.close()
        self._way.close()

    def _opened(self) -> int | None:
        from runs.models import Run

        return Run.objects.filter(name="train.py").values_list("pk", flat=True).first()

    def _goes_on(self) -> None:
        """Wait until something new is stored."""
        from runs.models import Run

        def step() -> int:
            return Run.objects.values_list("step", flat=True).get(pk=self._run_id)

        before = step()
        wait_for(
            lambda: step() > before, lambda: f"new points\n{self._host.printed()}\n{self._stack.log()}", PATIENCE_S
        )

    def _fail(self, fault: str) -> None:
        self._faults[fault] += 1
        if fault == "link":
            self._link.cut()
            # The link is down for a time, which is the fault.
            time.sleep(self._once_s or self._rng.uniform(0.1, self._longest_s))
            self._once_s = 0.0
            self._link.mend()
        elif fault == "database":
            with write_locked(self._stack, self._run_id):
                time.sleep(self._rng.uniform(0.1, self._longest_s))
        elif fault == "host":
            killed = self._host.kill_host_process()
            wait_for(lambda: self._host.host_process not in (None, killed), "another host process", PATIENCE_S)
        else:
            self._portal.restart(fault)

    def _ask(self) -> None:
        if self._open_commands() < MOST_OPEN_COMMANDS:
            self._send("evaluate")

    def _send(self, command: str) -> None:
        from runs.commands.record import record
        from runs.protocol.commands import parse_command

        record(self._run_id, parse_command({"command": command}), author_id=None, author_name="Ada")

    def _open_commands(self) -> int:
        from runs.models import Command
        from runs.recording.lifecycle import UNSETTLED

        return Command.objects.filter(run_id=self._run_id, state__in=UNSETTLED).count()

    def _judge(self) -> dict[str, int]:
        from runs.models import Command, Run
        from tests.support.killing import stored_points

        run = Run.objects.get(pk=self._run_id)
        stored = Counter(step for _, _, step, _ in stored_points(run.pk, "train/loss"))
        commands = Command.objects.filter(run_id=run.pk, kind="evaluate")
        applied = commands.filter(state="applied").count()
        taken = len((self._host.folder / "taken").read_text().splitlines())
        return {
            "faults": self._faults.total(),
            "points": run.step,
            "commands": commands.count(),
            "lost": sum(step not in stored for step in range(1, run.step + 1)),
            "doubled": sum(count - 1 for count in stored.values()),
            "applied_twice": max(0, taken - applied),
            "commands_lost": commands.count() - applied,
            "commands_open": self._open_commands(),
            "stopped": int(run.state == "stopped"),
            "repeated": self._way.repeated,
            **{f"fault_{name}": count for name, count in sorted(self._faults.items())},
        }


def run_remote(faults: int, longest_s: float, once_s: float, seed: int, network: Network | None) -> dict[str, Any]:
    hosts = {} if network is None else {"STEERSMAN_HOSTS": f"127.0.0.1,localhost,{OURS}"}
    with Stack(**hosts) as stack:
        seed_stack(stack)
        stack.use()
        stack.start_redis()
        remote = Remote(stack, random.Random(seed), longest_s, once_s, network)
        try:
            return remote.run(faults)
        finally:
            remote.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--longest", type=float, default=10.0, help="how long the link is down at most, in seconds")
    parser.add_argument("--once", type=float, default=60.0, help="how long it is down the first time, 0: as later")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--network", action="store_true", help="put the host into a network namespace of its own")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", file=sys.stderr)
    try:
        network = Network() if chosen.network else None
    except NotPermitted as error:
        print(json.dumps({"skipped": f"no network namespace can be made here: {error}"}))
        return 0
    try:
        result = run_remote(chosen.faults, chosen.longest, chosen.once, chosen.seed, network)
    finally:
        if network is not None:
            network.close()
    print(json.dumps({"seed": chosen.seed, **result}))
    return int(any(result[name] for name in WRONG) or not result["stopped"])


if __name__ == "__main__":
    sys.exit(main())
