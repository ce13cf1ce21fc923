"""A training and its viewer during faults of Redis: killed, frozen, slow, unresponsive, or disconnecting subscribers.

usage: python -m tests.chaos.redis_gone [--short]

Prints progress to stderr and one JSON object as its last line:
points, lost, doubled   logged points, and how many of them the database lost or has twice
sockets_closed          connections of the viewer that ended
longest_silence_s       longest time without anything new for the viewer
recover_s               time until the viewer is live again after Redis was killed or frozen
recover_other_s         the same after the other faults
lag_far_s               median time from a point to the viewer, while Redis is 50 ms away (`very_far`: 300 ms)
log_lines               log lines of portal and supervisor in total
step_ratio              time of a step in the outages, divided by the time before and between
"""

from __future__ import annotations

import signal
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from tests.chaos.postgres_gone import logged
from tests.outage.between import Between
from tests.outage.followed import Followed, say, token_of
from tests.outage.program import run_program
from tests.support.stack import Stack, seed_stack, wait_for

FAR_S, VERY_FAR_S = 0.025, 0.15
WRONG = ("lost", "doubled", "sockets_closed", "viewer_gaps")


@contextmanager
def followed_through(stack: Stack) -> Iterator[tuple[Between, Followed]]:
    stack.start_redis()
    between = Between(stack.redis.socket)
    stack.environment["STEERSMAN_REDIS_URL"] = between.url
    stack.start_web()
    try:
        with Followed(stack, token_of(stack)) as followed:
            wait_for(lambda: followed.viewer.links[-1] == "live", "the viewer to be live")
            yield between, followed
    finally:
        between.close()


def server_process(stack: Stack) -> psutil.Process:
    wanted = str(stack.redis.socket)
    return next(
        process
        for process in psutil.Process().children(recursive=True)
        if any(connection.laddr == wanted for connection in process.net_connections("unix"))
    )


def killed(stack: Stack, followed: Followed, seconds: float) -> float:
    server_process(stack).kill()
    followed.trouble(seconds, until=lambda: followed.is_linked("database"))
    stack.redis.stop()
    stack.start_redis()
    return followed.recovered_s()


def frozen(stack: Stack, followed: Followed, seconds: float) -> float:
    server = server_process(stack)
    server.send_signal(signal.SIGSTOP)
    followed.trouble(seconds)
    server.send_signal(signal.SIGCONT)
    return followed.recovered_s()


def far(between: Between, followed: Followed, one_way_s: float, seconds: float) -> tuple[float, float]:
    """Return the recovery time, and the age of points while Redis is far away."""
    first = len(followed.viewer.events)

    def lags() -> list[float]:
        return [
            at - event["blocks"][-1]["times"][-1]
            for event, at in zip(followed.viewer.events[first:], followed.viewer.received_at[first:], strict=False)
            if event["kind"] == "metrics"
        ]

    between.delay_s = one_way_s
    followed.trouble(seconds, until=lambda: len(lags()) > 1)
    told = lags()
    between.delay_s = 0.0
    return followed.recovered_s(), statistics.median(told)


def mute(between: Between, followed: Followed, seconds: float) -> float:
    between.is_mute = True
    followed.trouble(seconds)
    between.is_mute = False
    return followed.recovered_s()


def dropped(between: Between, followed: Followed, seconds: float) -> float:
    """End the connections of subscribers, as the server does to those that read too slowly."""
    between.drop_subscribers()
    followed.trouble(seconds)
    return followed.recovered_s()


def measure(short: bool) -> dict[str, Any]:
    with Stack() as stack:
        seed_stack(stack)
        stack.use()
        with followed_through(stack) as (between, followed):
            calm_s = 0.5 if short else 1.0
            followed.rest(1.0 if short else 10.0)
            sudden = {"killed": killed(stack, followed, 0.0 if short else 5.0)}
            for seconds in (4.0,) if short else (5.0, 30.0):
                followed.rest(calm_s)
                sudden[f"frozen {seconds:g} s"] = frozen(stack, followed, seconds)
            followed.rest(calm_s)
            other, lags = {}, {}
            for name, one_way_s in (("far", FAR_S), ("very_far", VERY_FAR_S)):
                other[name], lags[f"lag_{name}_s"] = far(between, followed, one_way_s, 1.0 if short else 10.0)
                followed.rest(calm_s)
            other["mute"] = mute(between, followed, 4.0 if short else 10.0)
            followed.rest(calm_s)
            other["dropped"] = dropped(between, followed, 1.0 if short else 5.0)
            followed.rest(calm_s if short else 5.0)
            say(f"recovered after {sudden | other}; links {followed.viewer.links}")
            followed.end()
            return followed.points() | {
                "sockets_closed": followed.sockets_closed(),
                "longest_silence_s": round(followed.longest_silence_s(), 2),
                "recover_s": round(max(sudden.values()), 2),
                "recover_other_s": round(max(other.values()), 2),
                **{name: round(lag_s, 3) for name, lag_s in lags.items()},
                "log_lines": len(logged(stack)),
                "step_ratio": round(followed.step_ratio(), 4),
                "links": sorted(set(followed.viewer.links)),
            }


def main() -> int:
    return run_program(measure, __doc__, "shorter outages: some twenty seconds in all", WRONG)


if __name__ == "__main__":
    sys.exit(main())
