"""The short path for tickets: in every case, it answers like all other addresses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.test import Client

from monitor_site.asgi import application, http_application
from monitor_site.short_path import ShortPath
from runs.access.tokens import create_token, revoke
from runs.models import Membership, Project, Run

TIMEOUT_S = 60
CSRF = "c" * 32
HOST = (b"host", b"localhost")
JSON = (b"content-type", b"application/json")
# Headers that depend on time or chance.
VARYING = ("date", "expires")


@pytest.fixture
def run(transactional_db: None) -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("operator", "stranger"):
        User.objects.create_user(name)
    Membership.objects.create(project=project, user=User.objects.get(username="operator"), role="operator")
    return Run.objects.create(project=project, name="one", pk=1)


def cookies(name: str, csrf: bool = True) -> list[tuple[bytes, bytes]]:
    """Return the cookies of a logged-in person's page."""
    client = Client()
    client.force_login(User.objects.get(username=name))
    sent = f"steersman_session={client.session.session_key}; steersman_csrf={CSRF}"
    return [(b"cookie", sent.encode()), *([(b"x-csrftoken", CSRF.encode())] if csrf else [])]


def bearer(scope: str, *, revoked: bool = False) -> list[tuple[bytes, bytes]]:
    run = Run.objects.get()
    token, value = create_token(User.objects.get(username="operator"), run.project, scope, name="script", run=run)
    if revoked:
        revoke(token)
    return [(b"authorization", f"Bearer {value}".encode())]


async def ask(
    asked: Any, headers: list[tuple[bytes, bytes]], body: bytes, method: str, query: bytes
) -> tuple[int, dict[str, str], bytes]:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": "/api/tickets/", "raw_path": b"/api/tickets/", "root_path": "", "query_string": query,
        "headers": [*headers, (b"content-length", str(len(body)).encode())], "client": ["127.0.0.1", 1],
        "server": ["127.0.0.1", 8765],
    }  # fmt: skip
    client = ApplicationCommunicator(asked, scope)
    half = len(body) // 2
    await client.send_input({"type": "http.request", "body": body[:half], "more_body": True})
    await client.send_input({"type": "http.request", "body": body[half:]})
    start = await client.receive_output(TIMEOUT_S)
    content = await client.receive_output(TIMEOUT_S)
    await client.wait(TIMEOUT_S)
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return start["status"], {name: value for name, value in found.items() if name not in VARYING}, content["body"]


GOOD = b'{"run": 1}'


@pytest.mark.parametrize(
    ("status", "who", "body", "options"),
    [
        (200, lambda: cookies("operator"), GOOD, {}),
        (200, lambda: bearer("view"), GOOD, {}),
        (200, lambda: bearer("share"), GOOD, {}),
        (401, lambda: [], GOOD, {}),
        (401, lambda: [], GOOD, {"language": b"zh-hans"}),
        (401, lambda: bearer("view", revoked=True), GOOD, {}),
        (401, lambda: bearer("share", revoked=True), GOOD, {}),
        (403, lambda: cookies("operator", csrf=False), GOOD, {}),
        (404, lambda: cookies("stranger"), GOOD, {}),
        (404, lambda: cookies("operator"), b'{"run": 2}', {}),
        (405, lambda: cookies("operator"), b"", {"method": "GET"}),
        (422, lambda: cookies("operator"), b"{", {}),
        (422, lambda: cookies("operator"), b'{"run": 1, "x": "' + b"y" * 100_000 + b'"}', {}),
        (422, lambda: cookies("operator"), GOOD, {"query": b"run=1"}),
        (400, lambda: cookies("operator"), GOOD, {"host": (b"host", b"evil.example")}),
    ],
)
def test_it_answers_as_the_long_way_does(run: Run, status: int, who: Any, body: bytes, options: Any) -> None:
    async def check() -> None:
        headers = [options.get("host", HOST), JSON, *await database_sync_to_async(who)()]
        if "language" in options:
            headers.append((b"accept-language", options["language"]))
        how = options.get("method", "POST"), options.get("query", b"")
        found = await ask(application, headers, body, *how)
        expected = await ask(http_application, headers, body, *how)
        assert found[0] == status
        assert found[:2] == expected[:2]
        if status == 200:
            assert set(json.loads(found[2])) == {"ticket", "expires_in_s"}
        elif found[1]["content-type"].startswith("application/json"):
            # Other answers are pages, each with its own CSRF token.
            assert found[2] == expected[2]

    async_to_sync(check)()


def test_it_redirects_to_tls_where_the_portal_is_behind_it(run: Run, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    async def check() -> None:
        status, headers, _ = await ask(ShortPath(_unasked, ["/api/tickets/"]), [HOST, JSON], GOOD, "POST", b"")
        assert status == 301 and headers["location"] == "https://localhost/api/tickets/"

    async_to_sync(check)()


def test_it_speaks_to_each_in_their_language(run: Run) -> None:
    async def check() -> None:
        said = set()
        for language in (b"zh-hans", b"en", b"zh-hans", b"en"):
            _, _, body = await ask(application, [HOST, JSON, (b"accept-language", language)], GOOD, "POST", b"")
            said.add((language, body))
        assert len(said) == 2

    async_to_sync(check)()


def test_it_leaves_a_client_that_left(run: Run) -> None:
    async def check() -> None:
        scope = {"type": "http", "path": "/api/tickets/", "method": "POST", "headers": [HOST], "query_string": b""}
        client = ApplicationCommunicator(ShortPath(_unasked, ["/api/tickets/"]), scope)
        await client.send_input({"type": "http.disconnect"})
        await client.wait(TIMEOUT_S)
        assert await client.receive_nothing()

    async_to_sync(check)()


async def _unasked(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the short way leaves this to nobody")
