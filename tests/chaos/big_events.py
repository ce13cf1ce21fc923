"""Large events through a real stack: bursts of console, thousands of series, long notes, and their viewers.

usage: python -m tests.chaos.big_events [--short]

Two viewers watch from the start, one connects late, one reconnects by `since`. Each must be greeted, receive no frame
over 64 KiB, and receive the newest event; the database must have every point, value, note and byte of console, or the
number of skipped bytes. Prints progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from tests.support.stack import ROOT, Stack, create_run, events, operator_ticket, rows, run_row, started_stack, wait_for
from tests.support.watcher import Watcher

WORKER = str(ROOT / "tests" / "trainings" / "large.py")
LARGEST_FRAME_BYTES = 64 * 1024
STEPS = 4
# Series, bytes of console after the first steps, notes.
CASES = ((1, (100_000,), 0), (1, (1_000_000, 100_000), 0), (1, (10_000_000,), 0), (800, (), 0), (5000, (), 0),
         (1, (), 100), (5000, (10_000_000, 100_000), 100))  # fmt: skip
SHORT_CASES = ((5000, (3_000_000, 100_000), 20),)
MOVES_WITHIN_S = 30.0


class Viewer(Watcher):
    """A viewer on a separate thread, which records the largest frame."""

    def __init__(self, stack: Stack, run_id: int, since: int | None = None) -> None:
        super().__init__(stack.address, run_id, lambda: operator_ticket(run_id))
        self.largest = 0
        if since is not None:
            self.connections, self.last_seq = 1, since
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self.follow()), daemon=True)
        self._thread.start()

    def _take(self, message: dict[str, Any]) -> None:
        self.largest = max(self.largest, len(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()))
        super()._take(message)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.stop(), self._loop)
        self._thread.join(60)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def within(look: Callable[[], object]) -> bool:
    try:
        return bool(wait_for(look, "", MOVES_WITHIN_S))
    except TimeoutError:
        return False


def is_stuck(stack: Stack, viewer: Viewer) -> bool:
    """Return whether a viewer does not reach the newest stored event, or was sent a frame that is too large."""
    newest = run_row(stack, viewer.run_id)["last_seq"]
    moves = within(lambda: viewer.last_seq > newest)
    return not moves or viewer.largest > LARGEST_FRAME_BYTES


def send_notes(run_id: int, count: int) -> None:
    from django.contrib.auth.models import User

    from runs.access.roles import Viewer as Person
    from runs.commands.record import record_as
    from runs.protocol.commands import parse_command

    user = User.objects.get(username="operator")
    from runs.access.grants import Grant, check_grants

    grant = Grant(run_id, user.pk)
    person = check_grants([grant])[grant]
    assert isinstance(person, Person)
    for number in range(count):
        text = ("模型" if number % 2 else "note") * 2000
        record_as(run_id, parse_command({"command": "note", "arguments": {"text": text[:2000]}}), person)


def missing(stack: Stack, run_id: int, series: int, printed: int, notes: int) -> int:
    """Return how much of the data from the training and people is missing in the database."""
    from tests.support.stored_points import read_points

    lost = 0
    for number in range(0, series, max(1, series // 50)):
        stored = [
            int(step) for points in read_points(run_id, f"layer/{number:04d}/norm").values() for step in points.steps
        ]
        lost += len(set(range(1, STEPS + 1)) - set(stored)) + len(stored) - len(set(stored))
    lost += series - rows(stack, "SELECT COUNT(*) AS n FROM runs_series WHERE run_id = ? AND name LIKE 'layer/%'",
                          run_id)[0]["n"]  # fmt: skip
    told: dict[str, Any] = {}
    for event in events(stack, run_id, "epoch"):
        told |= event["values"]
    lost += series - len(told)
    logs = events(stack, run_id, "log")
    console = sum(
        len(line["text"].encode()) + 1 for event in logs for line in event["lines"] if line["source"] == "console"
    )
    lost += abs(printed - console - sum(event["skipped_bytes"] for event in logs))
    commands = rows(stack, "SELECT COUNT(*) AS n FROM runs_command WHERE run_id = ? AND kind = 'note'", run_id)
    return lost + notes - int(commands[0]["n"])


def one_case(stack: Stack, number: int, case: tuple[int, tuple[int, ...], int]) -> dict[str, int]:
    series, bursts, notes = case
    run_id = create_run(stack, f"case {number}")
    told = stack.folder / f"told-{number}.json"
    viewers = [Viewer(stack, run_id) for _ in range(2)]
    wait_for(lambda: all(viewer.hello for viewer in viewers), "the first greetings")
    training = stack.train(run_id, "--quiet", "--", WORKER, str(told), str(series), str(STEPS), *map(str, bursts))
    wait_for(told.exists, lambda: f"all to be told\n{stack.log()}")
    printed = json.loads(told.read_text())["printed"]
    send_notes(run_id, notes)
    step = run_row(stack, run_id)["step"]
    wait_for(lambda: run_row(stack, run_id)["step"] > max(step, STEPS), lambda: f"the training to go on\n{stack.log()}")
    since = max(0, run_row(stack, run_id)["last_seq"] - 5)
    viewers += [Viewer(stack, run_id), Viewer(stack, run_id, since)]
    stuck = sum(is_stuck(stack, viewer) for viewer in viewers)
    ungreeted = sum(viewer.hello is None for viewer in viewers)
    training.send_signal(signal.SIGTERM)
    training.wait(60)
    for viewer in viewers:
        viewer.close()
    lost = missing(stack, run_id, series, printed, notes)
    largest = max(viewer.largest for viewer in viewers)
    say(f"case {number}: {series} series, {printed} bytes, {notes} notes: {stuck} stuck, {ungreeted} not greeted, "
        f"{lost} missing, largest frame {largest} bytes")  # fmt: skip
    return {"viewers": len(viewers), "viewers_stuck": stuck, "viewers_not_greeted": ungreeted,
            "missing_in_database": lost, "largest_frame_bytes": largest}  # fmt: skip


def measure(cases: tuple[tuple[int, tuple[int, ...], int], ...]) -> dict[str, int]:
    with started_stack() as stack:
        stack.use()
        found = [one_case(stack, number, case) for number, case in enumerate(cases, start=1)]
    result = {"cases": len(found), "largest_frame_bytes": max(one["largest_frame_bytes"] for one in found)}
    names = ("viewers", "viewers_stuck", "viewers_not_greeted", "missing_in_database")
    return result | {name: sum(one[name] for one in found) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    cases = SHORT_CASES if parser.parse_args().short else CASES
    result = measure(cases)
    print(json.dumps(result))
    wrong = any(result[name] for name in ("viewers_stuck", "viewers_not_greeted", "missing_in_database"))
    return int(wrong or result["viewers"] < 4 * len(cases))


if __name__ == "__main__":
    sys.exit(main())
