"""/healthz and /readyz work without login, without Django, and while the checked services hang."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from monitor_site.asgi import application
from runs.metrics import probes
from runs.metrics.probes import Probes

pytestmark = pytest.mark.django_db(transaction=True)


class Layer:
    fails = False

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.fails:
            raise OSError("connection refused by redis://secret@host")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layer]:
    layer = Layer()
    monkeypatch.setattr(probes, "get_channel_layer", lambda: layer)
    yield layer


async def ask(path: str, method: str = "GET", asked: Any = None) -> tuple[int, dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"host", b"10.0.0.9")], "query_string": b""}
    await (asked or Probes(application))(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


OK = {"ready": True, "database": "ok", "migrations": "ok", "channel_layer": "ok"}


def test_a_portal_in_order_is_ready(parts: Layer) -> None:
    assert async_to_sync(ask)("/readyz") == (200, OK)
    assert async_to_sync(ask)("/healthz") == (200, {"alive": True})
    assert async_to_sync(ask)("/readyz", "POST")[0] == 405


def test_they_are_asked_under_a_prefix_too(parts: Layer) -> None:
    assert async_to_sync(ask)("/lab/readyz", asked=Probes(application, "/lab"))[0] == 200


def test_it_says_which_part_fails_and_nothing_else(parts: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.fails = True
    assert async_to_sync(ask)("/readyz") == (503, OK | {"ready": False, "channel_layer": "failed"})
    parts.fails = False
    monkeypatch.setattr(probes, "needed_migrations", lambda: frozenset({("runs", "9999_to_come")}))
    assert async_to_sync(ask)("/readyz") == (503, OK | {"ready": False, "migrations": "failed"})


def test_a_database_that_hangs_takes_one_thread_and_no_answer_waits_for_it(
    parts: Layer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    back, looks = threading.Event(), []

    def hang() -> tuple[bool, bool]:
        looks.append(1)
        back.wait(60)
        return True, True

    monkeypatch.setattr(probes, "_ask_database", hang)
    monkeypatch.setattr(probes, "LOOK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(probes, "HOLDS_S", 0.0)
    assert probes.LOOK_TIMEOUT_S < 2

    async def story() -> None:
        asked = Probes(application)
        for _ in range(5):
            many = await asyncio.gather(*(ask("/readyz", asked=asked) for _ in range(20)))
            assert {status for status, _ in many} == {503}
            assert many[0][1] == OK | {"ready": False, "database": "failed", "migrations": "failed"}
            assert (await ask("/healthz", asked=asked))[0] == 200
        assert len(looks) == 1
        back.set()
        # The check that hung has its result now, so the next request counts.
        while (await ask("/readyz", asked=asked))[0] != 200:
            await asyncio.sleep(0.01)

    async_to_sync(story)()
    assert caplog.messages == ["/readyz: the database does not answer (TimeoutError)", "/readyz: the database is back"]
