"""Race for the lease of a run: with the functions of the lifecycle, and with real `train` processes.

usage: python -m tests.chaos.race [--races 500] [--trains 10] [--fences 2] [--seed N]

Two processes request the same attempt at the same moment; the superseded owner keeps writing with its old lease. Two
real `train` processes start on one run, on one host and on two hosts that share a database: exactly one trains. An
owner that is suspended with its worker, superseded and resumed stores the history of its attempt and writes nothing
else. Prints progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.locked_database import suspend_between_writes
from tests.support.stack import ROOT, Stack, create_run, events, rows, seed_stack, wait_for

SHORT = str(ROOT / "tests" / "trainings" / "short.py")
ENDLESS = ("1000000", "0.01")
# Time between the order to both processes and their start.
LEAD_S = 0.004
STALE_EXIT_CODE = 77
# Events that a superseded attempt may still store.
HISTORY = frozenset({"metrics", "log", "unfinished", "epoch", "checkpoint", "text", "environment"})


# One racer's side


def race() -> None:
    """Read orders from standard input, one JSON object per line, and answer each with one."""
    import django

    django.setup()
    from django.db import connection

    from runs.recording.lifecycle import Fenced, Holder, Lease, open_attempt

    holder = Holder(host=f"racer {os.getpid()}", boot_id="boot", pid=os.getpid())
    held: Lease | None = None
    connection.ensure_connection()
    for line in sys.stdin:
        order = json.loads(line)
        while time.monotonic() < order["at"]:
            pass
        before = held
        if order["write_first"] and held is not None and held.number == order["attempt"]:
            # The owner writes while the other process requests the next attempt.
            try_all(usual_writes(held))
        try:
            held = open_attempt(order["run"], holder, order["attempt"], command_line=[])
            won = True
        except Fenced:
            won = False
        # Whichever process won, the previous lease is stale now.
        stale = try_all(usual_writes(before) | last_writes(before)) if before is not None else []
        print(json.dumps({"won": won, "stale": stale}), flush=True)


def usual_writes(lease: Any) -> dict[str, Callable[[], object]]:
    """Return the writes that an owner does all the time, by name."""
    from django.conf import settings

    from runs.recording.lifecycle import renew_lease
    from runs.recording.record_side.store import RecordSide
    from steersman.agent.machine.redactor import Redactor
    from steersman.agent.reporting.reporter import Reporter, StoredProgress
    from steersman.agent.reporting.ticks import Tick
    from steersman.messages.reports import Line

    redactor = Redactor(settings.STEERSMAN_DATA, settings.BASE_DIR)
    ingest = Reporter(RecordSide(lease), Path(settings.STEERSMAN_DATA) / "none", redactor, StoredProgress())
    tick = Tick(lines=[Line(f"by attempt {lease.number}")])
    return {"renew_lease": lambda: renew_lease(lease, step=lease.number), "store": lambda: ingest.store(tick)}


def last_writes(lease: Any) -> dict[str, Callable[[], object]]:
    """Return the writes that an owner does rarely, or once, by name."""
    from runs.models import Attempt, Command, RunState
    from runs.recording.lifecycle import AttemptEnd, Holder, adopt_attempt, deliver_command, end_attempt

    attempt = Attempt.objects.get(pk=lease.attempt_id)
    command = Command.objects.get(run_id=lease.run_id)
    end = AttemptEnd(RunState.FAILED, exit_code=STALE_EXIT_CODE, error="stale")
    return {
        "adopt": lambda: adopt_attempt(attempt, Holder("stale", "boot", 1)),
        "deliver": lambda: deliver_command(lease, command),
        "end": lambda: end_attempt(lease, end),
    }


def try_all(writes: dict[str, Callable[[], object]]) -> list[str]:
    """Try all writes; return the names of those that were accepted."""
    from runs.recording.lifecycle import Fenced

    done = []
    for name, write in writes.items():
        try:
            write()
            done.append(name)
        except Fenced:
            continue
    return done


class Racer:
    """The parent's view of one racer."""

    def __init__(self, stack: Stack) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.race", "--racer"],
            env=stack.environment | {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def race_for_leases(stack: Stack, races: int, rng: random.Random) -> dict[str, int]:
    run_id = create_run(stack, "races")
    note = "from uuid import uuid4; from runs.commands.record import record; "
    note += "from runs.protocol.commands import Note, Request; "
    note += f"record({run_id}, Request(id=uuid4(), command=Note(text='x')), author_id=None, author_name='race')"
    stack.manage("shell", "-v", "0", "-c", note)
    racers = [Racer(stack), Racer(stack)]
    not_one = stale = 0
    wins = [0, 0]
    for number in range(races):
        at = time.monotonic() + LEAD_S
        order = {"run": run_id, "attempt": number, "write_first": bool(number % 2)}
        # The order of the racers is random, and now and then one is a little late.
        for racer in rng.sample(racers, 2):
            racer.send(order | {"at": at + rng.choice((0.0, 0.0, 0.0005, 0.002))})
        answers = [racer.answer() for racer in racers]
        won = [answer["won"] for answer in answers]
        not_one += sum(won) != 1
        stale += sum(len(answer["stale"]) for answer in answers)
        wins = [before + now for before, now in zip(wins, won, strict=True)]
        if sum(won) == 0:
            break
        if (number + 1) % 100 == 0:
            print(f"race {number + 1}/{races}: won {wins[0]} to {wins[1]}", file=sys.stderr)
    for racer in racers:
        racer.end()
    return {
        "races": races,
        "winners_not_one": not_one,
        "fenced_writes": stale + out_of_order(stack, run_id) + ended_by_the_overtaken(stack, run_id),
        "fewer_wins": min(wins),
        "attempts": len(rows(stack, "SELECT id FROM runs_attempt WHERE run_id = ?", run_id)),
    }


def out_of_order(stack: Stack, run_id: int) -> int:
    """Count the events of an attempt that were stored after a later attempt began."""
    newest = found = 0
    for event in events(stack, run_id):
        attempt = event.get("attempt")
        if attempt is None:
            continue
        if event["kind"] == "status":
            newest = max(newest, attempt)
        found += attempt < newest
    return found


def ended_by_the_overtaken(stack: Stack, run_id: int) -> int:
    sql = "SELECT id FROM runs_attempt WHERE run_id = ? AND exit_code = ?"
    return len(rows(stack, sql, run_id, STALE_EXIT_CODE))


# Real trainings


class Hosts:
    """Simulates two hosts for the record: each with a separate data folder, both with one database."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.second = Path(tempfile.mkdtemp(prefix="second-", dir=stack.folder))
        database = stack.environment.get("STEERSMAN_DATABASE_URL", f"sqlite:///{stack.data / 'steersman.sqlite3'}")
        self.elsewhere = {"STEERSMAN_DATA": str(self.second), "STEERSMAN_DATABASE_URL": database}

    def train(self, run_id: int, second: bool) -> subprocess.Popen[bytes]:
        return self.stack.train(run_id, "--quiet", "--", SHORT, *ENDLESS, **(self.elsewhere if second else {}))

    def attempt_folder(self, run_id: int, number: int, second: bool) -> Path:
        data = self.second if second else self.stack.data
        return data / "runs" / str(run_id) / "attempts" / str(number)


def race_trainings(stack: Stack, trains: int) -> dict[str, int]:
    """Start two real `train` processes at once; half of the races on one host, half on two."""
    hosts = Hosts(stack)
    not_one = 0
    for number in range(trains):
        run_id = create_run(stack, f"train {number}")
        both = [hosts.train(run_id, False), hosts.train(run_id, bool(number % 2))]
        codes = [each.returncode for each in first_ended(both)]
        wait_for_points(stack, run_id)
        for each in both:
            if each.poll() is None:
                each.terminate()
                each.wait(60)
        one = codes == [3] and sorted(each.returncode for each in both) == [0, 3] and doubled(stack, run_id) == 0
        not_one += not one
        print(f"train {number + 1}/{trains}: exit codes {[each.returncode for each in both]}", file=sys.stderr)
    return {"trains": trains, "train_winners_not_one": not_one}


def doubled(stack: Stack, run_id: int) -> int:
    blocks = [block for event in events(stack, run_id, "metrics") for block in event["blocks"]]
    steps = [step for block in blocks for step in block["steps"]]
    return len(steps) - len(set(steps))


def fence_trainings(stack: Stack, fences: int) -> dict[str, int]:
    """Suspend a host, let another take over its run, and resume it.

    Count what it wrote besides its history, and the bytes of the history that are not stored.
    """
    hosts = Hosts(stack)
    written = wrong_codes = lost_bytes = 0
    for number in range(fences):
        run_id = create_run(stack, f"fence {number}")
        overtaken = hosts.train(run_id, False)
        wait_for_points(stack, run_id)
        worker = stack.worker_pid(run_id)
        assert worker is not None
        suspend_between_writes(stack, run_id, overtaken.pid, worker)
        next_one = hosts.train(run_id, True)
        wait_for_points(stack, run_id, attempt=2)
        folder = hosts.attempt_folder(run_id, 1, False)
        before, files = rows_of(stack, run_id), contents(folder)
        overtaken.send_signal(signal.SIGUSR1)
        for pid in (worker, overtaken.pid):
            os.kill(pid, signal.SIGCONT)
        wrong_codes += overtaken.wait(60) != 4
        wait_for_end(worker)
        written += len(rows_of(stack, run_id) ^ before)
        for path, content in contents(folder).items():
            # The worker wrote these files until it was killed.
            if not path.name.startswith(("journal", "console", "mailbox", "ended")):
                written += files.get(path) != content
        lost_bytes += unread_bytes(stack, run_id, folder)
        next_one.terminate()
        next_one.wait(60)
        print(f"fence {number + 1}/{fences}: {written} writes, {lost_bytes} bytes of journal lost", file=sys.stderr)
    return {"fences": fences, "fence_writes": written, "fence_exit_not_4": wrong_codes, "fence_lost_bytes": lost_bytes}


def rows_of(stack: Stack, run_id: int) -> set[str]:
    """Return the rows of attempt 1 that are not history, and the commands of the run."""
    commands = rows(stack, "SELECT id, state FROM runs_command WHERE run_id = ?", run_id)
    of_attempt = [event for event in events(stack, run_id) if event.get("attempt") == 1]
    told = [event for event in of_attempt if event["kind"] not in HISTORY]
    return {json.dumps(row, default=str, sort_keys=True) for row in (*commands, *told)}


def unread_bytes(stack: Stack, run_id: int, folder: Path) -> int:
    """Return how many bytes of the journal of attempt 1 are not stored."""
    offsets = "SELECT o.* FROM runs_journaloffset o JOIN runs_attempt a ON a.id = o.attempt_id WHERE a.run_id = ? AND "
    (place,) = rows(stack, offsets + "a.number = 1", run_id)
    return (folder / "journal-0000-000000.bin").stat().st_size - int(place["offset"])


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def first_ended(both: list[subprocess.Popen[bytes]]) -> list[subprocess.Popen[bytes]]:
    return wait_for(lambda: [each for each in both if each.poll() is not None], "the loser to end")


def wait_for_points(stack: Stack, run_id: int, attempt: int = 1) -> None:
    def has_points() -> bool:
        return any(event["attempt"] == attempt for event in events(stack, run_id, "metrics"))

    wait_for(has_points, lambda: f"points of attempt {attempt}\n{stack.log()}")


def wait_for_end(pid: int) -> None:
    wait_for(lambda: has_ended(pid), "the worker that was overtaken to end")


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=500)
    parser.add_argument("--trains", type=int, default=10)
    parser.add_argument("--fences", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--racer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.racer:
        race()
        return 0
    print(f"seed {arguments.seed}", file=sys.stderr)
    with Stack() as stack:
        seed_stack(stack)
        leases = race_for_leases(stack, arguments.races, random.Random(arguments.seed))
        trainings = race_trainings(stack, arguments.trains)
        fences = fence_trainings(stack, arguments.fences)
    result = {"seed": arguments.seed, **leases, **trainings, **fences}
    result["races"] += result["trains"]
    result["winners_not_one"] += result["train_winners_not_one"]
    result["fenced_writes"] += result["fence_writes"]
    print(json.dumps(result))
    return int(
        bool(
            result["winners_not_one"]
            or result["fenced_writes"]
            or result["fence_exit_not_4"]
            or result["fence_lost_bytes"]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
