"""Join a host side and a record side by a link that loses, repeats, delays and reorders; end both; count what is wrong.

usage: python -m tests.chaos.interface [--faults 200] [--points 50000] [--commands 200] [--seed N]

A training logs points and takes commands. Its host side and the record side are the real ones, in one process; what
one sends the other crosses as bytes. At random, a message or its answer is lost, a report is sent twice, one of long
ago arrives (also of a host side that is gone), and either side is thrown away and begins anew from its files or rows.
Prints progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.stack import Stack, create_run, seed_project

WRONG = ("lost", "doubled", "applied_twice", "delivered_after_expiry", "commands_open")
FAULTS = ("request lost", "answer lost", "repeated", "old report", "record side ends", "host side ends")
CHANCE_OF_A_FAULT = 0.3
MOST_POINTS_AT_ONCE = 150
MOST_OPEN_COMMANDS = 3


class LinkCut(Exception):
    """A message, or the answer to it, did not arrive."""


class Link:
    """The host side's view of the record side. `faults` counts what went wrong, by name."""

    def __init__(self, lease: Any, rng: random.Random) -> None:
        from runs.recording.record_side.store import RecordSide

        self._new: Callable[[], Any] = lambda: RecordSide(lease)
        self._side = self._new()
        self._rng = rng
        self._sent: list[bytes] = []
        self.is_faulty = True
        self.host_ends = False
        self.faults: Counter[str] = Counter()
        self.reports = 0

    def attach(self) -> Any:
        return _crossed(self._side.attach())

    def report(self, report: Any) -> Any:
        self.reports += 1
        self._sent.append(pickle.dumps(report))
        return self.call(lambda: self._side.report(_crossed(report)))

    def call(self, ask: Callable[[], Any]) -> Any:
        """Return the answer, unless the link has a fault. Raises `LinkCut`."""
        fault = self._rng.choice(FAULTS) if self.is_faulty and self._rng.random() < CHANCE_OF_A_FAULT else ""
        if fault:
            self.faults[fault] += 1
        if fault == "request lost":
            raise LinkCut
        if fault == "old report" and self._sent:
            self._send_old()
        answer = ask()
        if fault == "repeated":
            ask()
        if fault == "record side ends":
            self._side = self._new()
        self.host_ends = fault == "host side ends"
        if fault in ("answer lost", "record side ends", "host side ends"):
            raise LinkCut
        return _crossed(answer)

    def _send_old(self) -> None:
        """Let a report of before arrive, and not the last one: that is not late, only sent again."""
        from runs.recording.record_side.continuing import Superseded

        old = pickle.loads(self._rng.choice(self._sent[:-1] or self._sent))
        try:
            self._side.report(old)
        except Superseded:
            return


def _crossed(message: Any) -> Any:
    return pickle.loads(pickle.dumps(message))


class Training:
    """What logs points, and takes commands at its step boundaries."""

    def __init__(self, folder: Path) -> None:
        from steersman.files.journal import JournalWriter
        from steersman.files.mailbox import Mailbox

        self._mailbox = Mailbox(folder)
        self._writer = JournalWriter(folder)
        self._log = self._writer.encoder(("train/loss",))
        self.step = 0
        self.taken: Counter[str | None] = Counter()

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.step += 1
            self._log(self.step, [1.0 / self.step])
        self.look()

    def look(self) -> bool:
        """Take the commands that were posted; return whether there were any."""
        from steersman.records.kinds import OutcomeRecord

        commands = self._mailbox.new_commands()
        for command in commands:
            self.taken[command.id] += 1
            outcome = OutcomeRecord(id=command.id, step=self.step, command=command.command, state="applied")
            self._writer.append(outcome)
        return bool(commands)


class Host:
    """A host side that begins from the files of its attempt."""

    def __init__(self, link: Link, lease: Any, folder: Path) -> None:
        from steersman.agent.machine.redactor import Redactor
        from steersman.agent.reporting.reporter import Reporter, StoredProgress
        from steersman.agent.supervise.interrupts import Interrupts
        from steersman.agent.supervise.posting import Posting
        from steersman.files.mailbox import Mailbox

        mailbox = Mailbox(folder)
        mailbox.settle()
        self._link, self._lease, self._folder = link, lease, folder
        self._posting = Posting(mailbox, Interrupts(), lambda _: None)
        self._reporter = Reporter(link, folder, Redactor(folder, folder, {}), StoredProgress())
        self.late_posts = 0
        self._attach()

    def _attach(self) -> None:
        from steersman.agent.journals.merged import Journals

        attached = self._reporter.attach()
        self._journals = Journals(self._folder, attached.positions, attached.last_steps)

    def look(self) -> bool:
        """Report what is new and obey orders; return whether there was something. Raises `LinkCut`."""
        from runs.recording.record_side.orders import take_orders
        from steersman.agent.reporting.ticks import Tick

        tick = self._reporter.under_way or Tick(read=self._journals.read())
        if tick.read is not None:
            self._reporter.store(tick)
            if self._reporter.under_way:
                self._attach()
                return True
            self._journals.advance(tick.read)
        orders = self._link.call(lambda: take_orders(self._lease, _crossed(self._posting.posted)))
        for order in orders:
            self.late_posts += order.expires_in_s is not None and order.expires_in_s <= 0
            self._posting.obey(order, time.monotonic())
        return bool(orders) or tick.read is not None


class Interface:
    """One run, its training, and the two sides that follow it."""

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        from runs.recording.lifecycle import Holder, open_attempt

        self._rng = rng
        run_id = create_run(stack, "interface")
        self._lease = open_attempt(run_id, Holder("host", "boot", 1), 0, command_line=[])
        self._folder = stack.folder / "attempt"
        self._folder.mkdir()
        self._training = Training(self._folder)
        self._link = Link(self._lease, rng)
        self._host = Host(self._link, self._lease, self._folder)
        self._late_posts = 0
        self._commands = 0

    def run(self, faults: int, points: int, commands: int) -> dict[str, int]:
        while sum(self._link.faults.values()) < faults or self._training.step < points or self._commands < commands:
            self._training.train(self._rng.randrange(MOST_POINTS_AT_ONCE))
            if self._rng.random() < 0.5:
                self._ask()
            self._look()
            if self._link.reports % 50 == 0:
                print(f"{self._link.faults.total()} faults, {self._training.step} points", file=sys.stderr)
        self._link.is_faulty = False
        while self._look() or self._training.look():
            continue
        return self._judge()

    def _look(self) -> bool:
        try:
            return self._host.look()
        except LinkCut:
            if self._link.host_ends:
                self._late_posts += self._host.late_posts
                self._host = Host(self._link, self._lease, self._folder)
            return True

    def _ask(self) -> None:
        """Send a command; some are late before they can arrive."""
        from datetime import timedelta

        from django.db.models.functions import Now

        from runs.commands.record import record
        from runs.models import Command
        from runs.protocol.commands import parse_command
        from runs.recording.lifecycle import UNSETTLED

        if Command.objects.filter(run_id=self._lease.run_id, state__in=UNSETTLED).count() >= MOST_OPEN_COMMANDS:
            return
        fields: dict[str, Any] = {"expires_in_s": 600} if self._rng.random() < 0.5 else {}
        request = parse_command({"command": "stop", **fields})
        record(self._lease.run_id, request, author_id=None, author_name="Ada")
        self._commands += 1
        if fields and self._rng.random() < 0.5:
            self._look()
            late = Command.objects.filter(pk=request.id, state__in=UNSETTLED)
            late.update(expires_at=Now() - timedelta(seconds=1))

    def _judge(self) -> dict[str, int]:
        from runs.models import Command, StoredEvent
        from runs.recording.lifecycle import UNSETTLED

        frames = StoredEvent.objects.filter(run_id=self._lease.run_id, kind="metrics").values_list("frame", flat=True)
        stored = Counter(step for frame in frames for block in json.loads(frame)["blocks"] for step in block["steps"])
        states = Counter(Command.objects.filter(run_id=self._lease.run_id).values_list("state", flat=True))
        return {
            "faults": sum(self._link.faults.values()),
            "reports": self._link.reports,
            "points": self._training.step,
            "commands": self._commands,
            "lost": sum(step not in stored for step in range(1, self._training.step + 1)),
            "doubled": sum(count - 1 for count in stored.values()),
            "applied_twice": sum(count - 1 for count in self._training.taken.values()),
            "delivered_after_expiry": self._late_posts + self._host.late_posts,
            "commands_open": sum(states[state] for state in UNSETTLED),
            **{f"commands_{state}": count for state, count in sorted(states.items()) if state not in UNSETTLED},
            **{f"fault_{name.replace(' ', '_')}": count for name, count in sorted(self._link.faults.items())},
        }


def run_interface(faults: int, points: int, commands: int, seed: int) -> dict[str, int]:
    with Stack() as stack:
        stack.migrate()
        stack.use()
        seed_project()
        stack.start_redis()
        return Interface(stack, random.Random(seed)).run(faults, points, commands)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    result = run_interface(arguments.faults, arguments.points, arguments.commands, arguments.seed)
    print(json.dumps({"seed": arguments.seed, **result}))
    return int(any(result[name] for name in WRONG))


if __name__ == "__main__":
    sys.exit(main())
