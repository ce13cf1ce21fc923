"""Guess passwords while a person reads: the portal must soon refuse every guess, even the right one, and stay quick.

usage: python -m tests.chaos.guess [--seconds 60] [--guessers 8]

A reader requests the list of runs, first without and then with the guessers, who try one account with wrong passwords
and sometimes the right one. Prints one JSON object as its last line. `guesses`: those with a response;
`right_after_lock`: those with the right password after the first refusal; `accepted_after_lock`: those of them that
were accepted; `page_p95_ratio`: the 95th percentile of the reader's page with guessers divided by that without.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from tests.support.stack import Stack, started_stack

WRONG = {"accepted_after_lock": 0}
ACCOUNT = "guessed"
PASSWORD = "a long and quiet river"
READ_EVERY_S = 0.1
# The correct password comes between wrong ones.
RIGHT_EVERY = 10
SEED = f"""
from django.contrib.auth.models import User
from runs.models import Membership, Project
for name in ("{ACCOUNT}", "reader"):
    user = User.objects.create_user(name, password="{PASSWORD}")
    Membership.objects.create(project=Project.objects.get(), user=user, role="viewer")
"""


@dataclass(slots=True)
class Guesses:
    """The counts of one guesser."""

    answered: int = 0
    refused: int = 0
    right_after_lock: int = 0
    accepted_after_lock: int = 0


@dataclass(slots=True)
class Visitor:
    """A minimal browser: keeps cookies, and one connection."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        """Return status and body."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, urlencode(form) if form is not None else None, headers)
        response = self.connection.getresponse()
        body = response.read().decode(errors="replace")
        for line in response.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        return response.status, body

    def log_in(self, name: str, password: str, token: str) -> int:
        form = {"username": name, "password": password, "csrfmiddlewaretoken": token}
        return self.ask("POST", "/login/", form)[0]

    def form_token(self) -> str:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.ask("GET", "/login/")[1])
        assert found, "the login has no form"
        return found[1]


def guess(port: int, until: float, number: int) -> Guesses:
    """Guess until `until` by the monotonic clock, and until the correct password was tried on the locked account."""
    visitor = Visitor(port)
    token = visitor.form_token()
    made = Guesses()
    while time.monotonic() < until or not made.right_after_lock:
        is_right = made.refused % RIGHT_EVERY == 1
        status = visitor.log_in(ACCOUNT, PASSWORD if is_right else f"wrong {number} {made.answered}", token)
        made.answered += 1
        made.refused += status == 429
        made.right_after_lock += is_right
        made.accepted_after_lock += is_right and status == 302
    return made


def read(visitor: Visitor, seconds: float) -> list[float]:
    """Return the durations of each request for the list of runs, in seconds: at least two, for `p95`."""
    took: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(took) < 2:
        began = time.monotonic()
        status, _ = visitor.ask("GET", "/")
        assert status == 200, f"the list of runs answered {status}"
        took.append(time.monotonic() - began)
        time.sleep(max(0.0, READ_EVERY_S - took[-1]))
    return took


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def check(stack: Stack, seconds: float, guessers: int) -> dict[str, float]:
    stack.manage("shell", "-v", "0", "-c", SEED)
    reader = Visitor(stack.port)
    assert reader.log_in("reader", PASSWORD, reader.form_token()) == 302
    read(reader, min(2.0, seconds))
    alone = read(reader, max(min(5.0, seconds), seconds / 4))
    # Separate processes, because threads would slow down the reader's clock.
    with multiprocessing.get_context("spawn").Pool(guessers) as pool:
        until = time.monotonic() + seconds
        guessing = pool.starmap_async(guess, [(stack.port, until, number) for number in range(guessers)])
        beside = read(reader, seconds)
        made = guessing.get(120)
    return {
        "guesses": sum(each.answered for each in made),
        "right_after_lock": sum(each.right_after_lock for each in made),
        "accepted_after_lock": sum(each.accepted_after_lock for each in made),
        "page_p95_ratio": round(p95(beside) / p95(alone), 2),
        "page_p95_alone_ms": round(p95(alone) * 1000, 1),
        "page_p95_beside_ms": round(p95(beside) * 1000, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--guessers", type=int, default=8)
    arguments = parser.parse_args()
    with started_stack() as stack:
        result = check(stack, arguments.seconds, arguments.guessers)
    print(json.dumps(result))
    return int(any(result[name] != value for name, value in WRONG.items()))


if __name__ == "__main__":
    sys.exit(main())
