"""What the host process prints, to standard error: the training's own output is passed on by the parent."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable

from steersman.agent.reporting.report_sequence import StoredProgress
from steersman.messages.ended import Concluded
from steersman.portal.requests import PortalError, Refused
from steersman.starting.messages import Place

# A shorter outage, such as a restart of the portal, is not printed.
PRINTED_AFTER_S = 5.0
CONTINUES = "The training continues, and is recorded on this machine."
HAS_ENDED = "The training has ended: waiting for the portal to store the rest. Press Ctrl-C twice to end the wait."


def say(text: str) -> None:
    """Print a line at the terminal, which may be closed."""
    with contextlib.suppress(OSError, ValueError):
        encoding = sys.stderr.encoding or "utf-8"
        line = f"steersman: {text}".encode(encoding, "replace").decode(encoding)
        print(line, file=sys.stderr, flush=True)


class Terminal:
    """A `steersman.agent.host_side.surroundings.Display`, and a `portal_link.Watcher`. Lines of several threads."""

    def __init__(self, place: Place | None, lives: Callable[[], bool]) -> None:
        """`lives` returns whether the training is alive."""
        self._place = place
        self._lives = lives
        self._lock = threading.Lock()
        self._unreachable_since: float | None = None
        # The problem of the outage that was printed last.
        self._printed = ""

    def opened(self, place: Place) -> None:
        """Print the address of the run, if it was unknown when the training started."""
        self._place = place
        self.say(f"run {place.run}: {place.page}")

    def lost_portal(self, problem: PortalError) -> None:
        with self._lock:
            now = time.monotonic()
            if self._unreachable_since is None:
                self._unreachable_since = now
            is_long = isinstance(problem, Refused) or now - self._unreachable_since >= PRINTED_AFTER_S
            text = f"{problem} {CONTINUES if self._lives() else HAS_ENDED}"
            if is_long and self._printed != text:
                self._printed = text
                say(text)

    def reached_portal(self) -> None:
        with self._lock:
            self._unreachable_since = None
            if self._printed:
                self._printed = ""
                say("The portal answers again.")

    def show(self, progress: StoredProgress) -> None: ...

    def console(self, lines: list[str]) -> None: ...

    def unfinished(self, lines: list[str]) -> None: ...

    def say(self, text: str) -> None:
        with self._lock:
            say(text)

    def end(self, progress: StoredProgress, end: Concluded) -> None:
        name = f"run {self._place.run}" if self._place is not None else "the run"
        self.say(f"{name} {end.state} at step {progress.step}" + (f": {end.reason}" if end.reason else "."))

    def close(self) -> None: ...
