"""Clients get 304 only if nothing has changed, and concurrent requests share an answer."""

from __future__ import annotations

import gzip
import random
import threading
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runs.access.roles import Viewer
from runs.access.tokens import create_token
from runs.api import answers, page
from runs.api.answers import SharedAnswers
from runs.commands.record import record_as
from runs.models import Attempt, Membership, Role, Run, StoredEvent, TokenScope
from runs.protocol.commands import parse_command
from runs.protocol.events import LogLine, LogWritten
from runs.recording import alerts, feed
from tests.live.recorded.recorded_run import RecordedRun
from tests.support.stack import wait_for

pytestmark = pytest.mark.django_db

POINTS = "points/?name=train/loss"
OF_POINTS = (POINTS, f"{POINTS}&buckets=5", f"{POINTS}&by_attempt=true", f"{POINTS}&raw=true&limit=5")
READERS = ("viewer", "operator", "share", "chinese")
# Points are the same for all readers, and a guest's answer is the same in every language.
PLACES = [(who, address) for who in READERS if who != "chinese" for address in ("history/", "details/")]
PLACES += [("share", POINTS), *(("viewer", address) for address in OF_POINTS)]


@dataclass
class Readers:
    """Members, a script and a guest of one run, and all their answers so far, by tag."""

    run: RecordedRun
    clients: dict[str, Client] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    newest: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        project = self.run.row.project
        for name in (*Role.values, "author", "witness"):
            role = name if name in Role.values else "operator"
            Membership.objects.create(project=project, user=User.objects.create(username=name), role=role)
        for role in ("viewer", "operator"):
            self.clients[role] = Client()
            self.clients[role].force_login(User.objects.get(username=role))
        owner = User.objects.get(username="owner")
        for scope in (TokenScope.VIEW, TokenScope.SHARE):
            run = self.run.row if scope == TokenScope.SHARE else None
            _, key = create_token(owner, project, scope, name=str(scope), run=run)
            self.clients[str(scope)] = Client(headers={"Authorization": f"Bearer {key}"})
        self.clients["chinese"] = Client(headers={"Authorization": f"Bearer {key}", "Accept-Language": "zh-hans"})

    def ask(self, who: str, address: str, tag: str = "") -> Any:
        headers = {"If-None-Match": tag} if tag else {}
        return self.clients[who].get(f"/api/runs/{self.run.pk}/{address}", headers=headers)

    def look(self) -> set[tuple[str, str]]:
        """Request everything for everybody, compare each response with the last; return which differ, and for whom."""
        changed = set()
        for who, address in PLACES:
            held = self.newest.get((who, address), "")
            again = self.ask(who, address, held)
            shared, page._histories = page._histories, SharedAnswers(1 << 20)
            read = self.ask(who, address)
            page._histories = shared
            assert read.status_code == 200, read.content
            tag = read.headers["ETag"]
            # The tag identifies the answer: equal tags mean equal content.
            assert self.bodies.setdefault(tag, read.content) == read.content, (who, address)
            assert again.status_code == (304 if tag == held else 200), (who, address)
            if again.status_code == 304:
                assert again.content == b"" and again.headers["ETag"] == tag
            else:
                assert (again.headers["ETag"], again.content) == (tag, read.content), (who, address)
                changed.add((who, address))
            self.newest[who, address] = tag
        return changed


@pytest.fixture
def readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Readers:
    monkeypatch.setattr(page, "_histories", SharedAnswers(1 << 20))
    return Readers(RecordedRun(tmp_path / "runs", random.Random(3)))


def test_who_holds_an_answer_is_told_so_only_while_it_is_the_same(readers: Readers) -> None:
    run = readers.run
    everything = set(PLACES)
    charts = {(who, address) for who, address in everything if address != "details/"}
    of_details = {(who, address) for who, address in everything if address in ("history/", "details/")}
    histories = {(who, address) for who, address in of_details if address == "history/"}
    # From then on they are merged from coarser rows.
    merged = {(who, address) for who, address in everything if address == f"{POINTS}&buckets=5"}
    told_to_guests = {("share", "history/")}
    tracebacks = {("operator", "history/"), ("operator", "details/")}

    def note_by_author() -> None:
        # Guests see a name without an account unchanged.
        author = Viewer(User.objects.get(username="author").pk, "SIGTERM", "operator")
        record_as(run.pk, parse_command({"command": "note", "arguments": {"text": "Look here."}}), author)

    def acknowledge() -> None:
        assert alerts.acknowledge(run.pk, run.row.alerts.get().pk, User.objects.get(username="witness").pk, "Grace")

    def alter(rows: Any, **fields: Any) -> None:
        assert rows.update(**fields)

    def another_past() -> None:
        # An older copy of the database continues with another event of the last number.
        newest = run.row.last_seq
        assert StoredEvent.objects.filter(run=run.pk, seq=newest).delete()[0]
        alter(Run.objects.filter(pk=run.pk), last_seq=newest - 1)
        assert feed.append(run.pk, LogWritten(attempt=1, lines=[LogLine(text="elsewhere")])) == newest

    author, account = Membership.objects.filter(user__username="author"), User.objects.filter(username="author")
    witness = Membership.objects.filter(user__username="witness")
    row, attempts = Run.objects.filter(pk=run.pk), Attempt.objects.filter(run=run.pk)
    # Each event, and whose answers it changes; tags may change more often than answers.
    story: list[tuple[str, Any, set[tuple[str, str]]]] = [
        ("nothing was asked before", lambda: None, everything),
        ("an attempt begins", run.start, of_details),
        ("points come", run.log_points, charts),
        ("an epoch ends", run.log_epoch, histories),
        ("a text, lines, and a sample of the machine", lambda: (run.log_text(), run.print_lines()), histories),
        ("a checkpoint is saved", run.save_checkpoint, of_details),
        ("more points come", lambda: run.log_points(200), charts),
        ("points are folded", run.fold, merged),
        ("points come after the fold", run.log_points, charts),
        ("a knob is turned", run.set_knob, of_details),
        ("somebody writes a note", note_by_author, histories),
        ("a command is withdrawn", run.cancel, histories),
        ("an alert begins", run.begin_alert, histories),
        ("somebody acknowledges it", acknowledge, histories),
        ("their role changes", lambda: alter(witness, role="owner"), told_to_guests),
        ("they leave", witness.delete, told_to_guests),
        ("the alert is cleared", run.clear_alert, histories),
        ("the author is renamed", lambda: alter(account, first_name="Ada"), set()),
        ("the author's role changes", lambda: alter(author, role="owner"), told_to_guests),
        ("the author's role changes back", lambda: alter(author, role="operator"), told_to_guests),
        ("the author leaves", author.delete, told_to_guests),
        ("the author's account is deleted", account.delete, told_to_guests),
        ("knobs change without an event", lambda: alter(row, knobs=[]), of_details),
        ("parameters change without an event", lambda: alter(row, parameters={"epochs": 4}), of_details),
        ("a traceback comes without an event", lambda: alter(attempts, traceback="Traceback"), tracebacks),
        ("the environment changes", lambda: alter(attempts, environment={"python": "3.13"}), of_details),
        ("a checkpoint goes without an event", lambda: run.row.checkpoints.all()[0].delete(), of_details),
        ("the attempt ends", run.fail, of_details),
        ("the next attempt goes over a part", lambda: (run.start(), run.log_points(9)), everything),
        ("checkpoints are removed", lambda: (run.save_checkpoint(), run.fail(), run.lose_checkpoint()), of_details),
        ("the database is replaced", another_past, histories),
        ("all is folded", run.fold, set()),
    ]  # fmt: skip
    for what, happens, concerned in story:
        before = {place: readers.bodies.get(tag) for place, tag in readers.newest.items()}
        happens()
        renewed = readers.look()
        changed = {place for place, tag in readers.newest.items() if readers.bodies[tag] != before.get(place)}
        assert changed >= concerned, (what, concerned - changed)
        assert renewed >= changed, what
        for who, address in PLACES[:2]:
            assert readers.ask(who, address, readers.newest[who, address]).status_code == 304, what


def test_a_member_does_not_get_what_was_told_to_another(readers: Readers) -> None:
    run = readers.run
    run.start()
    run.fail()
    read = {who: readers.ask(who, "history/") for who in READERS}
    tags = {who: answer.headers["ETag"] for who, answer in read.items()}
    assert tags["share"] == tags["chinese"] and read["share"].content == read["chinese"].content
    assert len({tags["viewer"], tags["operator"], tags["share"]}) == 3
    assert readers.ask("viewer", "history/", tags["operator"]).status_code == 200
    Membership.objects.filter(user__username="operator").update(role="viewer")
    demoted = readers.ask("operator", "history/", tags["operator"])
    assert demoted.status_code == 200 and b"Traceback" not in demoted.content
    Membership.objects.filter(user__username="operator").delete()
    assert readers.ask("operator", "history/", demoted.headers["ETag"]).status_code == 404


def test_those_who_share_an_answer_may_all_know_what_is_in_it(
    readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers.run.start()
    readers.run.write_note()
    readers.run.fail()
    told = {who: readers.ask(who, "history/").content for who in READERS}
    other = RecordedRun(readers.run.folder, random.Random(4), name="other")
    # A clock that runs backwards, as if every answer had been read after all requests arrived.
    ticks = count()
    monkeypatch.setattr(answers, "time", SimpleNamespace(monotonic=lambda: -next(ticks)))
    for order in (READERS, READERS[::-1]):
        monkeypatch.setattr(page, "_histories", SharedAnswers(1 << 20))
        assert {who: readers.ask(who, "history/").content for who in order} == told
    assert readers.clients["viewer"].get(f"/api/runs/{other.pk}/history/").json()["attempts"] == []


def test_a_browser_may_keep_it_and_asks_each_time(readers: Readers) -> None:
    readers.run.start()
    for who, address in PLACES:
        whole = readers.ask(who, address)
        unchanged = readers.ask(who, address, whole.headers["ETag"])
        assert (whole.status_code, unchanged.status_code) == (200, 304)
        for answer in (whole, unchanged):
            assert set(answer.headers["Cache-Control"].split(", ")) == {"private", "no-cache"}
            assert {"Accept-Encoding", "Authorization", "Cookie"} <= set(answer.headers["Vary"].split(", "))
    lists = readers.ask("viewer", "attempts/")
    assert "no-store" in lists.headers["Cache-Control"] and "ETag" not in lists.headers
    refused = readers.ask("viewer", f"{POINTS}&bukets=5", "*")
    assert refused.status_code == 422 and "no-store" in refused.headers["Cache-Control"]


@pytest.mark.parametrize("form", ["{}", 'W/"other", {}', '"{plain}"', '"other",{},"third"'])
def test_it_takes_a_tag_in_every_form(readers: Readers, form: str) -> None:
    tag = readers.ask("viewer", "details/").headers["ETag"]
    assert tag.startswith('W/"')
    asked = form.format(tag, plain=tag.removeprefix("W/").strip('"'))
    assert readers.ask("viewer", "details/", asked).status_code == 304
    assert readers.ask("viewer", "details/", 'W/"other"').status_code == 200


def test_who_asks_for_the_same_costs_no_second_reading_and_no_second_packing(readers: Readers) -> None:
    readers.run.start()
    readers.run.log_points(50)
    first = readers.clients["share"].get(f"/api/runs/{readers.run.pk}/history/", headers={"Accept-Encoding": "gzip"})
    with CaptureQueriesContext(connection) as captured:
        second = readers.clients["share"].get(
            f"/api/runs/{readers.run.pk}/history/", headers={"Accept-Encoding": "gzip"}
        )
    assert len(captured) <= 12
    assert not [query["sql"] for query in captured if "runs_chunk" in query["sql"] or "runs_series" in query["sql"]]
    assert "Accept-Encoding" in second.headers["Vary"] and second.headers["Content-Encoding"] == "gzip"
    # The random padding is part of the compressed answer: if it were compressed again, it would differ.
    assert second.content == first.content
    assert gzip.decompress(second.content) == readers.ask("share", "history/").content


def test_all_who_come_while_one_is_read_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is being read may already be too old for later requests."""
    ticks = count()
    arrivals: list[int] = []

    def monotonic() -> int:
        arrivals.append(next(ticks))
        return arrivals[-1]

    monkeypatch.setattr(answers, "time", SimpleNamespace(monotonic=monotonic))
    shared, may_end, reads = SharedAnswers(1000), threading.Event(), count(1)
    found: list[str] = []

    def read() -> tuple[str, bytes]:
        number = next(reads)
        may_end.wait(60)
        return f"tag {number}", b"body"

    def ask(tag: str) -> None:
        found.append(shared.get("run", tag, read).tag)

    threads = [threading.Thread(target=ask, args=(f"of {number}",)) for number in range(5)]
    threads[0].start()
    wait_for(lambda: len(arrivals) == 2, "the first to read")
    for thread in threads[1:]:
        thread.start()
    wait_for(lambda: len(arrivals) == 6, "the others to come")
    may_end.set()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["tag 1", *["tag 2"] * 4]
    assert shared.get("run", "tag 2", read).tag == "tag 2" and next(reads) == 3


def test_a_reading_that_fails_is_tried_again_by_the_next() -> None:
    shared = SharedAnswers(1000)

    def fails() -> tuple[str, bytes]:
        raise OSError

    with pytest.raises(OSError):
        shared.get("run", "tag", fails)
    assert shared.get("run", "tag", lambda: ("tag", b"body")).body == b"body"


def test_it_keeps_so_many_bytes_and_those_that_were_asked_for_last() -> None:
    shared, reads = SharedAnswers(30), count(1)

    def ask(key: str, size: int = 10) -> None:
        shared.get(key, "tag", lambda: ("tag", bytes(size) if next(reads) else b""))

    for key in ("a", "b", "c", "a", "d"):
        ask(key)
    assert set(shared._kept) == {"c", "a", "d"} and shared._bytes == 30
    shared.get("a", "newer", lambda: ("newer", bytes(20)))
    assert set(shared._kept) == {"a", "d"} and shared._bytes == 30
    # An answer that exceeds the limit by itself is returned, but not kept.
    assert len(shared.get("e", "tag", lambda: ("tag", bytes(31))).body) == 31
    assert not shared._kept and shared._bytes == 0
