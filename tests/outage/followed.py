"""A training followed through an outage: what it logged, what was stored, and what a viewer saw when."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from tests.support.stack import ROOT, Stack, create_run, rows, run_row, wait_for
from tests.support.watcher import Watcher, ticket_of

TIMED = str(ROOT / "tests" / "trainings" / "timed.py")
PAUSE_S = 0.004
# Start and end by the monotonic clock.
Span = tuple[float, float]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def token_of(stack: Stack) -> str:
    """Return a token of the operator that sees the runs of the project "lab"."""
    made = stack.manage("create_token", "--project", "lab", "--scope", "view", "--user", "operator")
    return next(word for word in made.stdout.split() if word.startswith("stm_"))


class Followed:
    """A training that logs without end, with one viewer. Use as a context manager."""

    def __init__(self, stack: Stack, token: str, name: str = "followed", pause_s: float = PAUSE_S) -> None:
        self.stack, self.token, self.name = stack, token, name
        self.run_id = create_run(stack, name)
        self.note = stack.folder / f"note-{name}"
        self.supervisor = stack.train(self.run_id, "--quiet", "--", TIMED, str(self.note), str(pause_s))
        self.viewer = Watcher(stack.address, self.run_id, lambda: ticket_of(stack, self.run_id, token))
        self.calm: list[Span] = []
        self.troubled: list[Span] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._follow(),), daemon=True)

    async def _follow(self) -> None:
        await self.viewer.follow()

    def __enter__(self) -> Followed:
        wait_for(
            lambda: run_row(self.stack, self.run_id)["step"] > 3, lambda: f"points of {self.name}\n{self.stack.log()}"
        )
        self._thread.start()
        wait_for(
            lambda: self.viewer.links and self.viewer.events, lambda: f"the viewer to be greeted\n{self.stack.log()}"
        )
        return self

    def __exit__(self, *error: object) -> None:
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            self.supervisor.wait(60)
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self.viewer.stop(), self._loop)
            self._thread.join(60)

    def rest(self, seconds: float) -> None:
        """Let it train without a fault for a while, for comparison with the times of outages."""
        began = time.monotonic()
        time.sleep(seconds)
        self.calm.append((began, time.monotonic()))

    def trouble(self, seconds: float, until: Callable[[], bool] = lambda: True) -> None:
        """Let it train during a fault, for some time and until the fault has had its effect."""
        began = time.monotonic()
        time.sleep(seconds)
        wait_for(until, lambda: f"an effect of the fault on {self.name}\n{self.stack.log()}")
        self.troubled.append((began, time.monotonic()))

    def is_linked(self, link: str) -> bool:
        """Return whether this is what the viewer was told last of its link."""
        return self.viewer.links[-1] == link

    def recovered_s(self, is_well: Callable[[], bool] = lambda: True) -> float:
        """Return the time, from now, until the viewer is live and receives a new event."""
        began, seen = time.monotonic(), self.viewer.last_seq
        wait_for(
            lambda: self.viewer.links[-1] == "live" and self.viewer.last_seq > seen,
            f"{self.name} to be live\n{self.stack.log()}",
        )
        live_s = time.monotonic() - began
        wait_for(is_well, lambda: f"pages\n{self.stack.log()}")
        well_s = time.monotonic() - began
        say(f"live after {live_s:.2f} s, pages after {well_s:.2f} s")
        return well_s

    def end(self) -> None:
        """Stop the training and wait until its viewer has seen the end."""
        # The supervisor may differ from the one that was started here.
        sql = "SELECT supervisor_pid FROM runs_attempt WHERE run_id = ? ORDER BY number DESC"
        os.kill(rows(self.stack, sql, self.run_id)[0]["supervisor_pid"], signal.SIGTERM)
        wait_for(lambda: run_row(self.stack, self.run_id)["state"] == "stopped", lambda: f"the end\n{self.stack.log()}")
        last = run_row(self.stack, self.run_id)["last_seq"]
        wait_for(lambda: self.viewer.last_seq >= last, "the viewer to see the end")

    # Figures after the end; they need an earlier call of `Stack.use`.

    def points(self) -> dict[str, int]:
        """Return how many points were logged, and how many of them the database lost or has twice."""
        from tests.support.stored_points import read_points

        noted = {step for step, _ in self._steps()}
        stored = Counter(int(step) for points in read_points(self.run_id, "value").values() for step in points.steps)
        return {
            "points": len(noted),
            "lost": len(noted - set(stored)),
            "doubled": sum(stored.values()) - len(stored),
            "viewer_gaps": self._viewer_gaps(),
        }

    def _viewer_gaps(self) -> int:
        """Return how many events the viewer missed, or received twice."""
        numbers = [event["seq"] for event in self.viewer.events]
        parts = [numbers[first:last] for first, last in pairwise([*self.viewer.begins, len(numbers)])]
        return sum(abs(part[-1] - part[0] + 1 - len(part)) for part in parts if part)

    def longest_silence_s(self) -> float:
        """Return the longest time without anything new for the viewer."""
        at = self.viewer.received_at
        return max(later - earlier for earlier, later in zip(at, at[1:], strict=False))

    def sockets_closed(self) -> int:
        return self.viewer.connections - 1

    def false_lives(self) -> int:
        """Return how often the viewer received that the training is silent, which it never was."""
        told = [message for message in self.viewer.messages if message["kind"] == "life"]
        say(f"told of its life: {told}")
        return sum(message["life"] != "alive" for message in told)

    def step_ratio(self) -> float:
        """Return how long steps take during faults, compared with other times."""
        return self._usual_step_s(self.troubled) / self._usual_step_s(self.calm)

    def _usual_step_s(self, spans: list[Span]) -> float:
        steps = self._steps()
        took = [end - start for (_, start), (_, end) in zip(steps, steps[1:], strict=False)
                if any(first <= start and end <= last for first, last in spans)]  # fmt: skip
        return statistics.median(took)

    def _steps(self) -> list[tuple[int, float]]:
        data = self.note.read_bytes()
        return list(struct.iter_unpack("<qd", data[: len(data) // 16 * 16]))
