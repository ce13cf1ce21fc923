"""While the database is frozen, gone or busy, pages and API quickly answer 503 with the time of the next attempt."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.cookiejar import CookieJar

import pytest

from runs.outage.patience import LONGEST_WAIT_S
from tests.outage.frozen_postgres import Server, end_connections, frozen, read_only, stack_on, started_server
from tests.outage.taken_away import database_file_taken_away
from tests.support import postgres
from tests.support.stack import Stack, rows, seed_stack, wait_for

TRAININGS_GO_ON = "Trainings continue, and their points are safe on their hosts."
BUSY = "The database is busy"
NO_CHANGES = "The database cannot be changed now"
AT_ONCE = 8
SEEN = "SELECT last_seen_at FROM usersessions_usersession ORDER BY id"


@dataclass
class Answer:
    status: int
    retry_after: str | None
    kind: str
    text: str


class Visitor:
    """A person at the portal of a stack, with cookies."""

    def __init__(self, stack: Stack) -> None:
        self._address = stack.address
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))

    def ask(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        body = None
        if form is not None:
            token = next(cookie.value for cookie in self._cookies if cookie.name == "steersman_csrf")
            body = urllib.parse.urlencode({**form, "csrfmiddlewaretoken": token or ""}).encode()
        request = urllib.request.Request(self._address + path, body, {"Accept": "text/html", **headers})
        try:
            with self._opener.open(request, timeout=60) as page:
                return self._answer(page)
        except urllib.error.HTTPError as error:
            return self._answer(error)

    def log_in(self, name: str = "operator") -> Answer:
        self.ask("/login/")
        return self.ask("/login/", {"username": name, "password": name})

    def cookies(self) -> str:
        """Return the header with all cookies."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._cookies)

    @staticmethod
    def _answer(page: urllib.request.addinfourl | urllib.error.HTTPError) -> Answer:
        kind = page.headers.get_content_type()
        return Answer(int(page.status or 0), page.headers["Retry-After"], kind, page.read().decode())


@pytest.fixture
def server() -> Iterator[Server]:
    with started_server() as server:
        yield server


@pytest.fixture
def on_postgres(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    with stack_on(server, monkeypatch) as stack:
        yield stack


@pytest.fixture
def on_sqlite(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.delenv(postgres.VARIABLE, raising=False)
    with Stack() as stack:
        seed_stack(stack)
        stack.start_web()
        yield stack


def assert_unavailable(visitor: Visitor) -> None:
    """Check the responses of pages, a form and the API without the database, for a visitor who has just seen "/"."""
    for path, repeats in (("/projects/", 'http-equiv="refresh"'), ("/", "js/pages/last_known")):
        page = visitor.ask(path)
        assert (page.status, page.kind) == (503, "text/html")
        assert page.retry_after and int(page.retry_after) > 0
        assert TRAININGS_GO_ON in page.text and repeats in page.text
    sent = visitor.ask("/login/", {"username": "operator", "password": "operator"})
    assert sent.status == 503 and TRAININGS_GO_ON in sent.text and 'http-equiv="refresh"' not in sent.text
    found = visitor.ask("/api/runs/", Accept="application/json")
    assert (found.status, found.kind) == (503, "application/json") and found.retry_after
    assert TRAININGS_GO_ON in json.loads(found.text)["error"]
    ticket = visitor.ask("/api/tickets/", {}, Accept="application/json")
    assert ticket.status == 503 and TRAININGS_GO_ON in json.loads(ticket.text)["error"]
    chinese = visitor.ask("/", **{"Accept-Language": "zh-hans"})
    assert chinese.status == 503 and "数据库" in chinese.text and TRAININGS_GO_ON not in chinese.text


def said_of_the_database(stack: Stack) -> list[str]:
    """Return the log lines of the portal about its database."""
    return [line for line in (stack.folder / "web.log").read_text().splitlines() if "runs.outage" in line]


def test_a_frozen_server_is_told_and_noticed_once_it_is_back(on_postgres: Stack, server: Server) -> None:
    visitor = Visitor(on_postgres)
    assert visitor.log_in().status == 200
    with frozen(server):
        assert_unavailable(visitor)
        assert visitor.ask("/healthz").status == 200
        assert visitor.ask("/static/img/logo.svg").status == 200
    wait_for(lambda: visitor.ask("/").status == 200, "a page after the outage")
    away, back = said_of_the_database(on_postgres)
    assert "does not answer" in away and "is back" in back
    assert "Traceback" not in on_postgres.log()


def log_in_at_once(stack: Stack) -> set[int]:
    """Let several people log in at the same moment, which opens as many connections; return the statuses."""
    with ThreadPoolExecutor(AT_ONCE) as people:
        return {answer.status for answer in people.map(lambda _: Visitor(stack).log_in(), range(AT_ONCE))}


def assert_all_can_log_in(stack: Stack) -> None:
    wait_for(lambda: Visitor(stack).log_in().status == 200, lambda: f"a login\n{stack.log()}")
    wait_for(lambda: log_in_at_once(stack) == {200}, lambda: f"logins of all at once\n{stack.log()}")


def test_a_server_that_is_gone_is_told_and_what_it_spoiled_is_left_behind(on_postgres: Stack, server: Server) -> None:
    visitor = Visitor(on_postgres)
    assert visitor.log_in().status == 200
    server.stop()
    assert_unavailable(visitor)
    server.start()
    wait_for(lambda: visitor.ask("/").status == 200, "a page after the outage")
    away, back = said_of_the_database(on_postgres)
    assert "does not answer" in away and "is back" in back
    # Connections that the server ended, then some that are read-only and outlive the fault.
    assert_all_can_log_in(on_postgres)
    end_connections(on_postgres)
    assert_all_can_log_in(on_postgres)
    with read_only(on_postgres):
        assert log_in_at_once(on_postgres) == {503}
        assert NO_CHANGES in Visitor(on_postgres).log_in().text
    assert_all_can_log_in(on_postgres)
    assert "Traceback" not in on_postgres.log()
    assert on_postgres.log().count("error connecting") <= 1


def test_a_file_that_somebody_else_writes_is_busy_for_those_who_write_and_there_for_those_who_read(
    on_sqlite: Stack,
) -> None:
    reader, writer, script = Visitor(on_sqlite), Visitor(on_sqlite), Visitor(on_sqlite)
    assert reader.log_in().status == 200
    made = on_sqlite.manage("create_token", "--project", "lab", "--user", "owner", "--scope", "view")
    token = {"Authorization": f"Bearer {made.stdout.strip()}", "Accept": "application/json"}
    path = on_sqlite.data / "steersman.sqlite3"
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        busy = writer.log_in()
        assert busy.status == 503 and busy.retry_after and BUSY in busy.text
        assert reader.ask("/").status == 200
        # Its use cannot be stored.
        assert script.ask("/api/runs/", **token).status == 200
        lock.execute("ROLLBACK")
    assert writer.log_in().status == 200
    assert not said_of_the_database(on_sqlite)
    with database_file_taken_away(on_sqlite):
        assert_unavailable(reader)
        assert not path.exists(), "an empty file would hide the loss"
    wait_for(lambda: reader.ask("/").status == 200, "a page after the outage")
    away, back = said_of_the_database(on_sqlite)
    assert "was deleted or moved" in away and "is back" in back
    assert "Traceback" not in on_sqlite.log()


def test_a_page_whose_session_is_to_be_noted_waits_for_no_lock(on_sqlite: Stack) -> None:
    """A portal that was restarted notes each session at its next request, also while somebody else writes."""
    first, second = Visitor(on_sqlite), Visitor(on_sqlite)
    assert first.log_in().status == second.log_in("owner").status == 200
    assert on_sqlite.web is not None
    on_sqlite.web.kill()
    on_sqlite.web.wait()
    on_sqlite.start_web()

    def noted() -> list[str]:
        return [row["last_seen_at"] for row in rows(on_sqlite, SEEN)]

    before = noted()
    assert first.ask("/").status == 200
    wait_for(lambda: noted()[0] != before[0], "the note of the first session")
    assert noted()[1] == before[1]
    with closing(sqlite3.connect(on_sqlite.data / "steersman.sqlite3", timeout=20, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        page = second.ask("/")
        took_s = time.monotonic() - began
        lock.execute("ROLLBACK")
    assert page.status == 200, page.text
    # One wait for the lock, not one for each statement.
    assert took_s < 2 * LONGEST_WAIT_S
    assert noted()[1] == before[1] and second.ask("/").status == 200
    assert not said_of_the_database(on_sqlite) and "Traceback" not in on_sqlite.log()


def test_a_damaged_file_is_told_until_it_is_restored(on_sqlite: Stack) -> None:
    visitor = Visitor(on_sqlite)
    assert visitor.log_in().status == 200
    path = on_sqlite.data / "steersman.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    path.write_bytes(b"no database" * 10_000)
    assert_unavailable(visitor)
    path.write_bytes(whole)
    wait_for(lambda: visitor.ask("/").status == 200, "a page after the restore")
    away, back = said_of_the_database(on_sqlite)
    assert ("not a database" in away or "malformed" in away) and "is back" in back
    assert "Traceback" not in on_sqlite.log()


def test_a_fault_of_the_portal_is_still_one(on_sqlite: Stack) -> None:
    """A missing table does not come back by itself: the page reports an error, and the log gives the cause."""
    visitor = Visitor(on_sqlite)
    assert visitor.log_in().status == 200
    with closing(sqlite3.connect(on_sqlite.data / "steersman.sqlite3", timeout=20)) as database:
        database.execute("ALTER TABLE runs_run RENAME TO away")
        database.commit()
    broken = visitor.ask("/")
    assert broken.status == 500 and broken.retry_after is None
    assert "no such table" in on_sqlite.log()
