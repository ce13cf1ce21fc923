"""A training, its viewer and visitors of the portal during faults of PostgreSQL.

usage: python -m tests.chaos.postgres_gone [--short]

The server is restarted, stopped and made read-only, all its backends are terminated, and its connections are exhausted.
Prints progress to stderr and one JSON object as its last line:
points, lost, doubled      logged points, and how many of them the database lost or has twice
false_unreachable          how often the viewer received that the training is silent, which it never was
pages_5xx_other_than_503   responses of pages and the API that are a fault of the portal
slowest_page_s             the slowest response
recover_s                  longest time from a fault until points arrive and a visitor can log in
locked_errors              log lines about a locked database
log_lines                  log lines of portal and supervisor in total
step_ratio                 time of a step in the outages, divided by the time before and between
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from tests.outage.followed import Followed, say, token_of
from tests.outage.frozen_postgres import PostgresError, Server, end_connections, read_only
from tests.outage.program import run_program
from tests.outage.visits import Visits
from tests.support import postgres
from tests.support.stack import Stack, seed_stack, wait_for

WRONG = ("lost", "doubled", "viewer_gaps", "false_unreachable", "pages_5xx_other_than_503", "locked_errors")


@contextmanager
def exhausted(stack: Stack) -> Iterator[None]:
    """Take all connections of the server, after those of the project were ended."""
    import psycopg

    address = stack.environment["STEERSMAN_DATABASE_URL"]
    with ExitStack() as taken:
        end_connections(stack)
        while True:
            try:
                taken.enter_context(closing(psycopg.connect(address)))
            except psycopg.OperationalError:
                break
        yield


class Story:
    def __init__(self, stack: Stack, server: Server, followed: Followed, visits: Visits, calm_s: float) -> None:
        self._stack, self._server, self._followed, self._visits = stack, server, followed, visits
        self._calm_s = calm_s
        self.recovered: dict[str, float] = {}

    def after(self, name: str, fault: Callable[[], None]) -> None:
        fault()
        took_s = self._followed.recovered_s(self._visits.is_well)
        self.recovered[name] = round(took_s, 2)
        say(f"{name}: well after {took_s:.2f} s; links {self._followed.viewer.links}")
        self._followed.rest(self._calm_s)

    def restart(self) -> None:
        self._server.stop()
        self._server.start()

    def stop(self, seconds: float) -> None:
        self._server.stop()
        self._followed.trouble(seconds, until=lambda: self._followed.is_linked("unavailable"))
        self._server.start()

    def only_read(self, seconds: float) -> None:
        with read_only(self._stack):
            self._followed.trouble(seconds)

    def end_backends(self) -> None:
        end_connections(self._stack)

    def exhaust(self, seconds: float) -> None:
        with exhausted(self._stack):
            self._followed.trouble(seconds)


def logged(stack: Stack) -> list[str]:
    logs = [stack.folder / "web.log", stack.folder / "train.log", *stack.data.glob("logs/*.log")]
    return [line for path in logs for line in path.read_text().splitlines()]


def result_of(stack: Stack, followed: Followed, visits: Visits, recovered: dict[str, float]) -> dict[str, Any]:
    lines = logged(stack)
    return followed.points() | {
        "false_unreachable": followed.false_lives(),
        "pages_5xx_other_than_503": visits.broken,
        "slowest_page_s": round(visits.slowest_s, 2),
        "recover_s": max(recovered.values()),
        "locked_errors": sum("locked" in line for line in lines),
        "log_lines": len(lines),
        "step_ratio": round(followed.step_ratio(), 4),
        "recovered": recovered,
        "links": sorted(set(followed.viewer.links)),
    }


def measure(short: bool) -> dict[str, Any]:
    with Server() as server:
        os.environ[postgres.VARIABLE] = server.address
        with Stack() as stack:
            seed_stack(stack)
            stack.use()
            stack.start_redis()
            stack.start_web()
            token = token_of(stack)
            with Followed(stack, token) as followed, Visits(stack, token) as visits:
                wait_for(lambda: followed.viewer.links[-1] == "live", "the viewer to be live")
                calm_s = 1.0 if short else 5.0
                followed.rest(calm_s)
                story = Story(stack, server, followed, visits, calm_s)
                if not short:
                    story.after("restarted", story.restart)
                story.after("stopped", lambda: story.stop(1.0 if short else 20.0))
                story.after("read-only", lambda: story.only_read(2.0 if short else 10.0))
                story.after("terminated", story.end_backends)
                story.after("exhausted", lambda: story.exhaust(2.0 if short else 10.0))
                followed.end()
                result = result_of(stack, followed, visits, story.recovered)
            return result


def main() -> int:
    try:
        return run_program(measure, __doc__, "shorter outages: some thirty seconds in all", WRONG)
    except PostgresError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
