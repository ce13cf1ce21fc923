"""While the database is unavailable, a reader gets what the same page showed before; nobody else gets it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
from channels.layers import channel_layers
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import resolve

from runs.access import revocation
from runs.live.hub import Hub
from runs.outage.last_known import LastKnown, last_known
from tests.outage.taken_away import database_file_taken_away
from tests.outage.test_pages import TRAININGS_GO_ON, Visitor, on_sqlite
from tests.support.stack import ROOT, Stack, create_run, wait_for

SHORT = str(ROOT / "tests" / "trainings" / "short.py")
NAME = "known before"
STEPS = 50

stack = on_sqlite


@pytest.fixture
def run(stack: Stack) -> int:
    run = create_run(stack, NAME)
    supervisor = stack.train(run, "--quiet", "--", SHORT, str(STEPS), "0.001", "log")
    assert supervisor.wait(60) == 0
    return run


@pytest.fixture
def token(stack: Stack) -> Iterator[str]:
    made = stack.manage("create_token", "--project", "lab", "--user", "operator", "--scope", "view", check=True)
    yield made.stdout.strip()


def test_a_reader_gets_the_last_known_state_and_others_do_not(stack: Stack, run: int, token: str) -> None:
    reader, other, guest, leaver = (Visitor(stack) for _ in range(4))
    paths = ("/?search=known", f"/runs/{run}/")
    script = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    for visitor in (reader, other, leaver):
        assert visitor.log_in().status == 200
    for path in paths:
        assert NAME in reader.ask(path).text and NAME in leaver.ask(path).text
    before = json.loads(reader.ask(f"/api/runs/{run}/", **script).text)
    session = leaver.cookies()
    assert leaver.ask("/logout/", {}).status == 200
    # A page with secrets is not kept.
    assert reader.ask("/sessions/").status == 200
    with database_file_taken_away(stack):
        for path in paths:
            page = reader.ask(path)
            assert page.status == 503 and page.retry_after and page.kind == "text/html"
            assert NAME in page.text and TRAININGS_GO_ON in page.text and 'id="last-known"' in page.text
            for stranger in (other, guest, leaver):
                assert NAME not in stranger.ask(path).text
            assert NAME not in guest.ask(path, Cookie=session).text
            chinese = reader.ask(path, **{"Accept-Language": "zh-hans"})
            assert chinese.status == 503 and NAME not in chinese.text
        answer = reader.ask(f"/api/runs/{run}/", **script)
        said = json.loads(answer.text)
        assert answer.status == 503 and answer.retry_after and TRAININGS_GO_ON in said["error"]
        assert said["last_known"] == before and said["at"]
        unasked = json.loads(reader.ask(f"/api/runs/{run}/epochs/", **script).text)
        assert "last_known" not in unasked
        wrong = json.loads(guest.ask(f"/api/runs/{run}/", Accept="application/json").text)
        assert "last_known" not in wrong
        assert 'id="last-known"' not in reader.ask("/sessions/").text
    wait_for(lambda: reader.ask("/").status == 200, "a page after the outage")
    assert 'id="last-known"' not in reader.ask("/").text
    assert "Traceback" not in stack.log()


def test_a_changed_permission_clears_them(layer: None) -> None:
    request = RequestFactory().get("/")
    request.resolver_match = resolve("/")
    last_known.note(request, HttpResponse("seen"))

    async def revoke() -> None:
        hub = Hub()
        await hub._link.join("run.1")
        assert last_known.of(request, time.monotonic())
        await channel_layers["default"].group_send(revocation.GROUP, {"type": revocation.MESSAGE})
        async with asyncio.timeout(60):
            while last_known.of(request, time.monotonic()):
                await asyncio.sleep(0.01)
        hub._link.stop()
        await hub._link.closed()

    asyncio.run(revoke())


def test_they_are_limited_in_bytes_and_age() -> None:
    known = LastKnown()
    requests = [RequestFactory().get(f"/runs/{number}/") for number in range(1, 40)]
    for request in requests:
        request.resolver_match = resolve(request.path)
        known.note(request, HttpResponse(b"x" * (1 << 20)))
    now = time.monotonic()
    kept = [request for request in requests if known.of(request, now)]
    # Each takes a little more than its body.
    assert kept == requests[-31:]
    assert known.of(kept[-1], now + 500) and not known.of(kept[-1], now + 601)
    # A permission that is revoked during a long outage ends them too.
    assert known.of(kept[-1], now - 3_000) and not known.of(kept[-1], now - 3_601)
    known.note(kept[-1], HttpResponse(b"x" * ((2 << 20) + 1)))
    assert not known.of(kept[-1], now)
    # A changed permission ends the earlier answer; a failure does not.
    known.note(kept[-2], HttpResponse(status=500))
    assert known.of(kept[-2], now)
    known.note(kept[-2], HttpResponse(status=404))
    assert not known.of(kept[-2], now)
