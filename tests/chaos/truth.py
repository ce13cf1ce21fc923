"""Compare the state of a run that viewers see with its real state: lost, dead, adopted, and busy but alive.

usage: python -m tests.chaos.truth [--loaded-s 240] [--repeats 2]

With `watch` and a WebSocket viewer, the program suspends a supervisor and its worker, as if their host were lost; kills
both; kills only the supervisor, while a second training provides the usual time of steps; then loads every core. Prints
progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.locked_database import suspend_between_writes
from tests.support.stack import ROOT, Stack, create_run, kill, operator_ticket, rows, run_row, started_stack, wait_for
from tests.support.watcher import Watcher

WORKER = str(ROOT / "tests" / "trainings" / "timed.py")
PAUSE_S = 0.01
# An adoption disturbed a step if the step took so many times as long as any other, and at least so much longer.
TIMES_LONGER = 2.0
LONGER_S = 0.005
# The start of the next supervisor may disturb steps too.
AFTER_ADOPTION_S = 2.0


class Training:
    """A run with its viewer, and the time of each of its steps."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack = stack
        self.run_id = create_run(stack, name)
        self.note = stack.folder / f"note-{name}"
        self.supervisor = stack.train(self.run_id, "--quiet", "--", WORKER, str(self.note), str(PAUSE_S))
        wait_for(lambda: run_row(stack, self.run_id)["step"] > 3, lambda: f"points of {name}\n{stack.log()}")
        worker = stack.worker_pid(self.run_id)
        assert worker is not None
        self.worker = worker
        self.viewer = Watcher(stack.address, self.run_id, lambda: operator_ticket(self.run_id))
        self._loop = asyncio.new_event_loop()
        self._following = threading.Thread(
            target=lambda: self._loop.run_until_complete(self.viewer.follow()), daemon=True
        )
        self._following.start()
        wait_for(lambda: self.viewer.hello, "the viewer to be greeted")

    @property
    def attempt(self) -> dict[str, Any]:
        sql = "SELECT * FROM runs_attempt WHERE run_id = ? ORDER BY number DESC"
        return rows(self.stack, sql, self.run_id)[0]

    def seen(self, states: set[str], since: int = 0) -> bool:
        """Return whether the viewer received one of `states` after its event `since`."""
        return any(
            event["kind"] == "status" and event["state"] in states and event["seq"] > since
            for event in list(self.viewer.events)
        )

    def lives(self) -> list[str]:
        """Return the heartbeat states that the viewer received, in order."""
        return [message["life"] for message in list(self.viewer.messages) if message["kind"] == "life"]

    def steps(self) -> list[tuple[int, float]]:
        """Return each noted step and its time."""
        data = self.note.read_bytes()
        return list(struct.iter_unpack("<qd", data[: len(data) // 16 * 16]))

    def stop(self) -> None:
        os.kill(self.attempt["supervisor_pid"], signal.SIGTERM)
        wait_for(lambda: self.seen({"stopped"}), "the end")
        self.close()

    def close(self) -> None:
        # The loop ends with the viewer, so the future of `stop` never completes.
        asyncio.run_coroutine_threadsafe(self.viewer.stop(), self._loop)
        self._following.join(60)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def seconds_until(look: Callable[[], object], what: str | Callable[[], str], timeout_s: float = 60.0) -> float:
    began = time.monotonic()
    wait_for(look, what, timeout_s)
    return time.monotonic() - began


@contextmanager
def watching(stack: Stack) -> Iterator[None]:
    with (stack.folder / "watch.log").open("ab") as log:
        watch = subprocess.Popen(
            stack.command("watch"), env=stack.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: rows(stack, "SELECT 1 FROM runs_host"), lambda: f"the watch\n{stack.log()}")
        yield
    finally:
        watch.kill()
        watch.wait()


@contextmanager
def every_core_loaded() -> Iterator[None]:
    burning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(len(os.sched_getaffinity(0)))
    ]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def suspend(training: Training) -> dict[str, float]:
    """Suspend supervisor and worker as if their host were lost; measure how long the viewer and the recovery take."""
    pids = (training.supervisor.pid, training.worker)
    since = training.viewer.last_seq
    began = suspend_between_writes(training.stack, training.run_id, *pids)
    wait_for(lambda: "unreachable" in training.lives(), lambda: f"unreachable\n{training.stack.log()}")
    unreachable_s = time.monotonic() - began
    wait_for(lambda: training.seen({"lost"}, since), lambda: f"lost\n{training.stack.log()}")
    lost_s = time.monotonic() - began
    since = training.viewer.last_seq
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    healed_s = seconds_until(lambda: training.seen({"running"}, since), "the run to heal")
    say(f"unreachable after {unreachable_s:.1f} s, lost after {lost_s:.1f} s, healed after {healed_s:.1f} s")
    return {"unreachable_shown_s": unreachable_s, "lost_shown_s": lost_s, "healed_s": healed_s}


def kill_both(stack: Stack, number: int) -> float:
    """Kill supervisor and worker; return the seconds until the viewer knows that the run is not running."""
    training = Training(stack, f"dead-{number}")
    since = training.viewer.last_seq
    training.supervisor.kill()
    kill(training.worker)
    training.supervisor.wait()
    known_s = seconds_until(lambda: training.seen({"lost", "failed"}, since), lambda: f"the death\n{stack.log()}")
    wait_for(lambda: training.seen({"failed"}, since), "how it ended")
    training.close()
    say(f"both dead: known after {known_s:.2f} s")
    return known_s


def kill_supervisor(training: Training) -> tuple[float, tuple[float, float]]:
    """Kill a supervisor; return the seconds until another holds the run, and the period in which steps may be slow."""
    before = training.attempt
    began = time.monotonic()
    kill(before["supervisor_pid"])
    adopted_s = seconds_until(
        lambda: training.attempt["adoptions"] > before["adoptions"], f"the adoption\n{training.stack.log()}"
    )
    step = run_row(training.stack, training.run_id)["step"]
    wait_for(lambda: run_row(training.stack, training.run_id)["step"] > step, "points that the next one stored")
    time.sleep(AFTER_ADOPTION_S)
    say(f"adopted after {adopted_s:.1f} s")
    return adopted_s, (began, time.monotonic())


def durations(steps: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """Return when each step ended, and the seconds since the previous one."""
    return [(end, end - start) for (_, start), (_, end) in zip(steps, steps[1:], strict=False)]


def disturbed(training: Training, beside: Training, spans: list[tuple[float, float]]) -> dict[str, float]:
    """Count the steps that the deaths of a supervisor affected: missing, or longer than other steps.

    The usual time comes from the same training at other times, and from a second training at the same times, which is
    subject to the same load.
    """

    def within(end: float) -> bool:
        return any(first <= end <= last for first, last in spans)

    first, last = spans[0][0] - 20.0, spans[-1][1]
    own = [(end, took) for end, took in durations(training.steps()) if first <= end <= last]
    there = [took for end, took in durations(beside.steps()) if first <= end <= last]
    usual_s = max([took for end, took in own if not within(end)] + there)
    longest_s = max(took for end, took in own if within(end))
    too_long = sum(took > TIMES_LONGER * usual_s + LONGER_S for end, took in own if within(end))
    numbers = [step for step, _ in training.steps()]
    missed = sum(later != earlier + 1 for earlier, later in zip(numbers, numbers[1:], strict=False))
    say(f"steps of {1e3 * usual_s:.1f} ms at most without a death, {1e3 * longest_s:.1f} ms with one; {missed} missed")
    return {
        "steps_disturbed": missed + too_long,
        "steps_missed": missed,
        "longest_step_ms": 1e3 * longest_s,
        "usual_longest_step_ms": 1e3 * usual_s,
    }


def lost_points(training: Training) -> int:
    """Count noted steps that were not stored, or were stored more than once."""
    from tests.support.stored_points import read_points

    noted = {step for step, _ in training.steps()}
    stored = [int(step) for points in read_points(training.run_id, "value").values() for step in points.steps]
    return len(noted - set(stored)) + len(stored) - len(set(stored))


def load(trainings: list[Training], seconds: float) -> dict[str, int]:
    """Load every core; count how often a viewer received the state of a lost run for a living training."""
    before = [(training.viewer.last_seq, len(training.lives())) for training in trainings]
    with every_core_loaded():
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            say(f"every core is loaded, {left_s:.0f} s left")
            time.sleep(min(30.0, left_s))
    lost = unreachable = 0
    for training, (since, told) in zip(trainings, before, strict=True):
        states = [event["state"] for event in training.viewer.events if event["kind"] == "status"
                  and event["seq"] > since]  # fmt: skip
        lost += states.count("lost") + training.lives()[told:].count("silent")
        unreachable += training.lives()[told:].count("unreachable")
    return {"false_lost": lost, "false_unreachable": unreachable}


def measure(loaded_s: float, repeats: int) -> dict[str, float]:
    with started_stack() as stack:
        stack.use()
        with watching(stack):
            suspended = Training(stack, "suspended")
            result: dict[str, float] = suspend(suspended)
            suspended.stop()
            beside, training = Training(stack, "beside"), Training(stack, "watched")
            result["same_host_s"] = max(kill_both(stack, number) for number in range(repeats))
            adoptions = [kill_supervisor(training) for _ in range(repeats)]
            result["adopted_s"] = max(seconds for seconds, _ in adoptions)
            result |= disturbed(training, beside, [span for _, span in adoptions])
            result |= load([beside, training], loaded_s)
            beside.stop()
            training.stop()
            result["points_lost"] = sum(lost_points(each) for each in (suspended, beside, training))
    return {name: round(value, 2) for name, value in result.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loaded-s", type=float, default=240.0)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    result = measure(arguments.loaded_s, arguments.repeats)
    print(json.dumps(result | {"loaded_s": arguments.loaded_s}))
    return int(any(result[name] for name in ("false_lost", "steps_disturbed", "points_lost")))


if __name__ == "__main__":
    sys.exit(main())
