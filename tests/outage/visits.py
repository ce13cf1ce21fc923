"""Requests pages and the API of a portal repeatedly during an outage, and records the responses and their times."""

from __future__ import annotations

import threading
import time
from collections import Counter

from tests.outage.followed import say
from tests.outage.test_pages import Visitor
from tests.support.stack import Stack

PAUSE_S = 0.2
FAULTS = 6
PATHS = ("/", "/runs/1/", "/api/runs/")


class Visits:
    """People who request pages until the end of the context; they log in before."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack, self._token = stack, token
        self._visitor, self._leaving = Visitor(stack), [Visitor(stack) for _ in range(FAULTS)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask_forever, daemon=True)
        self.statuses: Counter[int] = Counter()
        self.slowest_s = 0.0
        # The number of responses that are neither the page nor the notice of an outage.
        self.broken = 0

    def __enter__(self) -> Visits:
        assert {visitor.log_in().status for visitor in (self._visitor, *self._leaving)} == {200}
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(60)

    def is_well(self) -> bool:
        """Return whether pages can be read and something can be changed: a visitor logs out. Call once per fault."""
        if self._visitor.ask("/").status != 200 or self._leaving[-1].ask("/logout/", {}).status != 200:
            return False
        self._leaving.pop()
        return True

    def _ask_forever(self) -> None:
        while not self._over.wait(PAUSE_S):
            for path in PATHS:
                headers = {"Authorization": f"Bearer {self._token}"} if path.startswith("/api/") else {}
                began = time.monotonic()
                answer = self._visitor.ask(path, **headers)
                took_s = time.monotonic() - began
                self.statuses[answer.status] += 1
                if took_s > self.slowest_s:
                    self.slowest_s = took_s
                    say(f"slowest so far: {path} {answer.status} after {took_s:.2f} s")
                if answer.status >= 500 and (answer.status != 503 or answer.retry_after is None):
                    self.broken += 1
                    say(f"{path} answered {answer.status}: {answer.text[:200]}")
