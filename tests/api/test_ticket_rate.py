"""Rate limits for tickets: per session or token, and per address for clients that are not authenticated yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import Client

from monitor_site.asgi import application, http_application
from runs.access.tokens import create_token, revoke
from runs.live import socket_limits
from runs.models import Membership, Project, Run
from tests.api.test_ticket_path import GOOD, HOST, JSON, ask, cookies

FEWEST = {"user": 5, "token": 8, "address": 12}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(transactional_db: None) -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("operator", "viewer"):
        user = User.objects.create_user(name)
        Membership.objects.create(project=project, user=user, role=name)
    return Run.objects.create(project=project, name="one", pk=1)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Clock]:
    """Few tickets, and a clock that stands still."""
    settings.STEERSMAN_SOCKETS_PER_USER = settings.STEERSMAN_SOCKETS_PER_LINK = 1
    monkeypatch.setattr(socket_limits, "FEWEST_VISITS", FEWEST)
    clock = Clock()
    monkeypatch.setattr("runs.api.tickets.rate", socket_limits.TicketRate(clock))
    yield clock


def logged_in(name: str, address: str = "192.0.2.7") -> Client:
    client = Client(REMOTE_ADDR=address)
    client.force_login(User.objects.get(username=name))
    return client


def ticket(client: Client, run: int = 1, **headers: str) -> Any:
    return client.post("/api/tickets/", {"run": run}, content_type="application/json", headers=headers)


def statuses(client: Client, number: int, run: int = 1, **headers: str) -> list[int]:
    return [ticket(client, run, **headers).status_code for _ in range(number)]


def test_a_session_that_asks_in_a_loop_is_told_to_wait(run: Run, clock: Clock) -> None:
    operator, viewer = logged_in("operator"), logged_in("viewer")
    assert statuses(operator, FEWEST["user"] + 1) == [200] * FEWEST["user"] + [429]
    refused = ticket(operator)
    assert refused.headers["Retry-After"] == str(socket_limits.TICKET_WAIT_S)
    assert refused.json() == {"error": "Too many tickets were requested: try again in 5 seconds.", "field": ""}
    assert ticket(viewer).status_code == 200, "another session, from the same address"
    clock.now += socket_limits.REFILL_S
    assert ticket(operator).status_code == 200


def test_a_session_is_counted_whatever_it_asks_for(run: Run) -> None:
    assert statuses(logged_in("operator"), FEWEST["user"] + 1, run=2) == [404] * FEWEST["user"] + [429]


def test_all_who_hold_a_share_link_have_a_rate_together(run: Run) -> None:
    _, value = create_token(User.objects.get(username="operator"), run.project, "share", name="hall", run=run)
    key = {"Authorization": f"Bearer {value}"}
    guests = [Client(REMOTE_ADDR=f"192.0.2.{number}") for number in range(FEWEST["token"] + 1)]
    assert [ticket(guest, **key).status_code for guest in guests] == [200] * FEWEST["token"] + [429]


def test_strangers_use_up_their_address_and_take_nothing_from_who_was_known_before(run: Run) -> None:
    known, late, elsewhere = logged_in("operator"), logged_in("viewer"), logged_in("viewer", "198.51.100.9")
    assert ticket(known).status_code == 200
    for number in range(FEWEST["address"] - 1):
        stranger = Client(REMOTE_ADDR="192.0.2.7")
        stranger.cookies["steersman_session"] = f"made-up-{number}"
        assert ticket(stranger).status_code == 401
    assert ticket(Client(REMOTE_ADDR="192.0.2.7")).status_code == 429
    assert ticket(late).status_code == 429
    assert ticket(known).status_code == 200 and ticket(elsewhere).status_code == 200


def test_a_link_that_was_revoked_is_refused_at_no_more_than_its_rate(run: Run) -> None:
    token, value = create_token(User.objects.get(username="operator"), run.project, "share", name="hall", run=run)
    key = {"Authorization": f"Bearer {value}"}
    assert ticket(Client(), **key).status_code == 200
    revoke(token)
    assert statuses(Client(), FEWEST["token"], **key) == [401] * (FEWEST["token"] - 1) + [429]


def test_who_is_refused_costs_the_database_nothing(run: Run, django_assert_num_queries: Any) -> None:
    operator = logged_in("operator")
    statuses(operator, FEWEST["user"])
    with django_assert_num_queries(0):
        assert ticket(operator).status_code == 429


@pytest.mark.parametrize("asked", [application, http_application], ids=["short", "long"])
def test_both_ways_to_a_ticket_are_bounded(run: Run, asked: Any) -> None:
    headers = [HOST, JSON, *cookies("operator")]

    async def check() -> None:
        for _ in range(FEWEST["user"]):
            assert (await ask(asked, headers, GOOD, "POST", b""))[0] == 200
        status, found, body = await ask(asked, headers, GOOD, "POST", b"")
        assert (status, found["retry-after"]) == (429, "5") and "Too many" in json.loads(body)["error"]

    async_to_sync(check)()
