"""Check that pages which follow a run through faults end with the same state as a page that is loaded at the end.

usage: python -m tests.chaos.seams [--seed 1] [--stories 5] [--short]

Three pages follow a real run (`tests.live.recorded`): an operator's with compression and one without, and one by a
share link. Meanwhile, in an order from the seed, the program cuts their connections, restarts Redis and the portal,
locks the database for a second, logs very large events, and folds points. The portal's channel layer loses, duplicates
and delays announcements (`tests.chaos.torn.layer`). At the end the reducer of each page, in node, must have the state
of a fresh page, and must have applied no event twice. Prints progress to stderr and one JSON object as its last line:
different  pages that differ from a fresh one, or applied an event twice
doubled    events that a socket sent twice, or after a later one
gaps       events that a socket left out without a notice
stuck      pages that did not receive the newest event
torn       announcements lost (L), doubled (D), held back (H) and passed on (P)
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import websockets
from websockets.sync.client import ClientConnection, connect

from tests.support.locked_database import write_locked
from tests.support.stack import Stack, run_row, seed_stack, wait_for

if TYPE_CHECKING:
    from tests.live.recorded.recorded_run import RecordedRun

RETRY_PAUSE_S = 0.1
LOCKED_S = 1.0
ASKS_TIMEOUT_S = 15.0
COMES_WITHIN_S = 60.0
# About 100 KB of one epoch, and as much console output: more than one frame may contain. With as many series, a history
# would merge points by other rules than a page that followed.
WIDE_EPOCH, LONG_LINE, LONG_LINES = 1_500, 2_000, 50
# How often each disturbance happens to a story, in random order; between two of them the run continues.
DISTURBANCES = {"cut": 10, "huge": 4, "fold": 4, "redis": 2, "web": 2, "lock": 2}
SHORT_DISTURBANCES = {"cut": 5, "huge": 2, "fold": 2, "redis": 1, "web": 1, "lock": 1}
MOST_ACTIONS = 5


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Page:
    """Follows a run as static/js/run does, on a separate thread, and records everything for its reducer."""

    def __init__(self, stack: Stack, run_id: int, key: str, name: str, compression: str | None) -> None:
        self.name, self.seq = name, 0
        self.told: list[dict[str, Any]] = []
        self.connections = self.histories = self.doubled = self.gaps = 0
        self.codes: Counter[int | None] = Counter()
        self._stack, self._run_id, self._key, self._compression = stack, run_id, key, compression
        self._must_load, self._over = True, threading.Event()
        # Whether a greeting has delivered what the newest history lacks: the run itself.
        self.is_greeted = False
        self._socket: ClientConnection | None = None
        self.come()

    def come(self) -> None:
        """Follow the run; after `close`, continue from the last event."""
        self._over.clear()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End the connection without a close frame, at any point."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # already closed
                self._socket.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._over.set()

        def ends() -> bool:
            # The thread may be about to connect.
            self.cut()
            return not self._thread.is_alive()

        wait_for(ends, f"the page {self.name} to end")

    def _follow(self) -> None:
        while not self._over.is_set():
            try:
                if self._must_load:
                    self._load()
                self._watch()
            except (OSError, http.client.HTTPException, websockets.WebSocketException, EOFError):
                pass  # the portal is down, or the connection was cut
            self._over.wait(RETRY_PAUSE_S)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        asked = urllib.request.Request(
            f"{self._stack.address}{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked, timeout=ASKS_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def _load(self) -> None:
        history = self._ask(f"/api/runs/{self._run_id}/history/")
        self.told.append(history | {"kind": "history"})
        self.is_greeted = False
        self.seq, self._must_load = history["seq"], False
        self.histories += 1

    def _watch(self) -> None:
        ticket = self._ask("/api/tickets/", {"run": self._run_id})["ticket"]
        address = self._stack.address.replace("http", "ws")
        with connect(
            f"{address}/ws/runs/{self._run_id}/?since={self.seq}",
            subprotocols=["steersman.v1", f"ticket.{ticket}"],  # type: ignore[list-item]
            compression=self._compression,
            max_size=None,
        ) as self._socket:
            self.connections += 1
            sent = self.seq
            try:
                while not self._must_load:
                    frame = json.loads(self._socket.recv())
                    must_load = False
                    for message in frame if isinstance(frame, list) else [frame]:
                        sent = self._take(message, sent)
                        must_load = must_load or self._must_load
                    self._must_load = must_load
            except websockets.ConnectionClosed as closed:
                self.codes[closed.rcvd.code if closed.rcvd else None] += 1

    def _take(self, message: dict[str, Any], sent: int) -> int:
        """Apply a message; return the number of the last event that this socket has sent."""
        self.told.append(message)
        kind = message["kind"]
        if kind == "hello":
            sent = self.seq if message["replay"] else message["seq"]
            self._must_load = not message["replay"] and message["seq"] != self.seq
            self.is_greeted = not self._must_load
        elif kind == "resync":
            # Later events in the same frame continue from there; the history has the missing ones.
            self._must_load, sent = True, message["seq"]
        elif kind != "pong" and "seq" in message:
            # The portal may merge the metrics of several events into one.
            first = message.get("first_seq", message["seq"])
            self.doubled += first <= sent
            if first > sent + 1:
                self.gaps += 1
                say(f"page {self.name}: event {first} came after {sent}")
            sent = message["seq"]
            self._must_load = first > self.seq + 1
            if first <= self.seq + 1 <= sent:
                self.seq = sent
        return sent


class Story:
    """A run, the pages that follow it, and the disturbances of both."""

    def __init__(self, stack: Stack, run: RecordedRun, chance: random.Random, keys: dict[str, str]) -> None:
        self.stack, self.run, self.chance, self.keys = stack, run, chance, keys
        self.pages = [
            self.page("operator", "packed", "deflate"), self.page("operator", "plain", None),
            self.page("share", "guest", "deflate"),
        ]  # fmt: skip
        self.locking: threading.Thread | None = None
        self.redis_is_up = self.web_is_up = True

    def page(self, key: str, name: str, compression: str | None) -> Page:
        return Page(self.stack, self.run.pk, self.keys[key], name, compression)

    def happen(self, disturbances: dict[str, int]) -> None:
        deck = [name for name, count in disturbances.items() for _ in range(count)]
        self.chance.shuffle(deck)
        for name in deck:
            say(f"{self.run.name}: {name}, event {self.newest()}")
            getattr(self, name)()
            for _ in range(self.chance.randrange(MOST_ACTIONS)):
                self.chance.choice(self.run.legal())()
            if self.chance.random() < 0.5:
                self.start_all()
                if self.pages_behind():
                    break  # more disturbances would only hide the cause
        self.start_all()

    def newest(self) -> int:
        return int(run_row(self.stack, self.run.pk)["last_seq"])

    def pages_behind(self) -> int:
        """Wait until the pages have received the newest event, and return how many have not."""
        newest = self.newest()

        def is_there(page: Page) -> bool:
            return page.seq >= newest and page.is_greeted

        within(lambda: all(map(is_there, self.pages)))
        return sum(not is_there(page) for page in self.pages)

    def start_all(self) -> None:
        if self.locking is not None:
            self.locking.join()
        if not self.redis_is_up:
            self.stack.start_redis()
        if not self.web_is_up:
            self.stack.start_web()
        self.redis_is_up = self.web_is_up = True

    # Disturbances

    def cut(self) -> None:
        for page in self.chance.sample(self.pages, self.chance.randint(1, len(self.pages))):
            page.cut()

    def redis(self) -> None:
        if self.redis_is_up:
            self.stack.redis.stop()
        else:
            self.stack.start_redis()
        self.redis_is_up = not self.redis_is_up

    def web(self) -> None:
        if self.web_is_up:
            assert self.stack.web is not None
            # In an orderly end the portal closes every page with 1012; killed, it sends nothing.
            self.chance.choice((self.stack.web.terminate, self.stack.web.kill))()
            self.stack.web.wait(60)
        else:
            self.stack.start_web()
        self.web_is_up = not self.web_is_up

    def lock_database(self, locked: threading.Event) -> None:
        with write_locked(self.stack, self.run.pk):
            locked.set()
            # Writers in this process and in the portal wait meanwhile.
            time.sleep(LOCKED_S)

    def lock(self) -> None:
        locked = threading.Event()
        self.locking = threading.Thread(target=self.lock_database, args=(locked,))
        self.locking.start()
        locked.wait(60)

    def revive(self) -> None:
        """Start a training of the run if none is running."""
        if self.run.training is None or not self.run.row.is_live:
            if self.run.state == "finished":
                self.run.extend()
            self.run.start()

    def huge(self) -> None:
        self.revive()
        training = self.run.now
        values = {f"validation_accuracy_of_class_{number:04d}": self.chance.random() for number in range(WIDE_EPOCH)}
        training.client.log_epoch(max(1, training.step // 10), step=training.step, duration_s=1.5, **values)
        self.run.store()
        self.print_much()

    def print_much(self) -> None:
        from steersman.agent.journals.consoles import ConsolesRead
        from steersman.agent.reporting.ticks import Tick

        lines = [f"{number} {LONG_LINE * 'x'}" for number in range(LONG_LINES)]
        self.run.store(Tick(console=ConsolesRead(lines, 0, {})))

    def fold(self) -> None:
        """Fold points without an announcement, so that the portal finds a gap."""
        from tests.chaos.torn.layer import fate_of

        self.revive()
        self.run.log_points()
        while fate_of(self.stack.environment["TORN_SEED"], self.run.pk, self.newest()) != "L":
            self.run.log_points(1)
        self.run.fold()

    # The end

    def judge(self) -> dict[str, Any]:
        """Compare each page with a fresh one of the same viewer, while the run is idle."""
        stuck, stories = self.pages_behind(), []
        for page in self.pages:
            page.close()
            fresh = self.page("share" if page.name == "guest" else "operator", "fresh", None)
            wait_for(lambda fresh=fresh: any(each["kind"] == "hello" for each in fresh.told), "a greeting")  # type: ignore[misc]
            fresh.close()
            history, hello = fresh.told[0], next(each for each in fresh.told if each["kind"] == "hello")
            end = {"seq": history["seq"], "hello": hello, "history": history}
            told = [{"name": page.name, "told": page.told}]
            stories.append({"name": self.run.name, "cuts": [end], "frames": [], "pages": told})
        from tests.live.test_page_state import differences

        return {
            "different": differences(stories, self.stack.folder),
            "doubled": sum(page.doubled for page in self.pages),
            "gaps": sum(page.gaps for page in self.pages),
            "stuck": stuck,
            "events": self.newest(),
            "connections": sum(page.connections for page in self.pages),
            "histories": sum(page.histories for page in self.pages),
            "codes": dict(sum((page.codes for page in self.pages), Counter[int | None]())),
        }


def within(look: Callable[[], object]) -> bool:
    try:
        return bool(wait_for(look, "", COMES_WITHIN_S))
    except TimeoutError:
        return False


def keys_of(run_id: int) -> dict[str, str]:
    """Return a read-only token of the operator, and the key of a share link."""
    from django.contrib.auth.models import User

    from runs.access.tokens import create_token
    from runs.models import Run, TokenScope

    run, operator = Run.objects.get(pk=run_id), User.objects.get(username="operator")
    _, token = create_token(operator, run.project, TokenScope.VIEW, name="page")
    _, share = create_token(operator, run.project, TokenScope.SHARE, name="hall", run=run)
    return {"operator": token, "share": share}


def one_story(stack: Stack, seed: int, disturbances: dict[str, int]) -> dict[str, Any]:
    from tests.live.recorded.recorded_run import RecordedRun

    chance = random.Random(seed)
    run = RecordedRun(stack.folder / "recorded", chance, name=f"seed {seed}")
    story = Story(stack, run, chance, keys_of(run.pk))
    wait_for(lambda: all(page.connections for page in story.pages), "the first connections")
    run.start()
    story.happen(disturbances)
    return story.judge()


def measure(seed: int, stories: int, disturbances: dict[str, int]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    with Stack() as stack:
        note = stack.folder / "torn"
        stack.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.torn.settings", "TORN_SEED": str(seed), "TORN_NOTE": str(note),
        }  # fmt: skip
        seed_stack(stack)
        stack.use()
        stack.start_redis()
        stack.start_web()
        for number in range(seed, seed + stories):
            say(f"seed {number}")
            found.append(one_story(stack, number, disturbances))
            say(json.dumps(found[-1])[:2000])
        torn = dict(Counter(note.read_text()))
        copy_logs(stack)
    codes: Counter[str] = Counter()
    for one in found:
        codes.update({str(code): count for code, count in one["codes"].items()})
    names = ("doubled", "gaps", "stuck", "events", "connections", "histories")
    return {
        "seed": seed,
        "stories": len(found),
        "different": [place for one in found for place in one["different"]],
        **{name: sum(one[name] for one in found) for name in names},
        "codes": codes,
        "torn": torn,
    }


def copy_logs(stack: Stack) -> None:
    """Print the errors that the portal logged, which may explain a failure."""
    lines = (stack.folder / "web.log").read_text(errors="replace").splitlines()
    for line in dict.fromkeys(line for line in lines if "could not" in line):
        say(f"portal: {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--stories", type=int, default=5)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    if arguments.short:
        result = measure(arguments.seed, 1, SHORT_DISTURBANCES)
    else:
        result = measure(arguments.seed, arguments.stories, DISTURBANCES)
    print(json.dumps(result))
    return int(bool(result["different"]) or any(result[name] for name in ("doubled", "gaps", "stuck")))


if __name__ == "__main__":
    sys.exit(main())
