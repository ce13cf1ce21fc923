"""Measure what requests for a run's history cost the web process: 20 series of 5,000 points, read by a share link.

usage: python bench/costs/history.py

Prints one JSON object as its last line, in milliseconds of CPU time per request:
crowd_ms      200 guests request it at the same moment, each on a separate connection
first_ms      one guest requests it after each new event: the portal reads, encodes and compresses the history
same_ms       one guest without a copy requests it again
unchanged_ms  one guest requests it again with the `ETag` of its copy
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.support.processes import cpu_s  # noqa: E402
from tests.support.stack import Stack, started_stack  # noqa: E402  needs the path

SERIES, STEPS, STEPS_AN_EVENT = 20, 5_000, 50
GUESTS = 200
REQUESTS = 100
NEW_EVENTS = 30


class Hall:
    """Serves a run that is shared by a link."""

    def __init__(self, stack: Stack) -> None:
        from django.contrib.auth.models import User

        from runs.access.tokens import create_token
        from runs.models import Project, Run, TokenScope

        self.stack = stack
        project, owner = Project.objects.get(slug="lab"), User.objects.get(username="owner")
        self.run = Run.objects.create(project=project, name="hall", state="running")
        _, self.key = create_token(owner, project, TokenScope.SHARE, name="hall", run=self.run)

    def log(self, first: int, count: int) -> None:
        from django.db import transaction

        from runs.recording import feed
        from runs.series import storage
        from tests.support.stored_points import metrics

        steps = range(first, first + count)
        columns = {f"layer {number}/loss": [1 / (step + number + 1) for step in steps] for number in range(SERIES)}
        event = metrics(columns, steps)
        with transaction.atomic():
            feed.append(self.run.pk, event)
            storage.update_latest(self.run.pk, [event])

    def ask(self, tag: str = "") -> tuple[int, str]:
        """Request the history; return the status of the response and its tag."""
        headers = {"Authorization": f"Bearer {self.key}", "Accept-Encoding": "gzip", "If-None-Match": tag}
        address = f"{self.stack.address}/api/runs/{self.run.pk}/history/?form=columns"
        try:
            with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=120) as answer:
                answer.read()
                return answer.status, answer.headers.get("ETag", "")
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("ETag", "")

    def cost_ms(self, asking: Callable[[], Any], requests: int) -> float:
        assert self.stack.web is not None
        before = cpu_s(self.stack.web.pid)
        asking()
        return round((cpu_s(self.stack.web.pid) - before) * 1000 / requests, 1)


def main() -> None:
    with started_stack() as stack:
        stack.use()
        from runs.series import storage

        hall = Hall(stack)
        for first in range(0, STEPS, STEPS_AN_EVENT):
            hall.log(first, STEPS_AN_EVENT)
        storage.fold(hall.run.pk)

        def crowd() -> None:
            with ThreadPoolExecutor(GUESTS) as guests:
                assert {status for status, _ in guests.map(lambda _: hall.ask(), range(GUESTS))} == {200}

        def after_events() -> None:
            for number in range(NEW_EVENTS):
                hall.log(STEPS + number, 1)
                assert hall.ask()[0] == 200

        found = {"crowd_ms": hall.cost_ms(crowd, GUESTS), "first_ms": hall.cost_ms(after_events, NEW_EVENTS)}
        _, tag = hall.ask()
        for name, held, status in (("same_ms", "", 200), ("unchanged_ms", tag, 304)):

            def again(held: str = held, status: int = status) -> None:
                assert {hall.ask(held)[0] for _ in range(REQUESTS)} == {status}

            found[name] = hall.cost_ms(again, REQUESTS)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
