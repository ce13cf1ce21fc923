"""Shared parts of the greeting tests: guests of a run, and a count of database accesses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User

from monitor_site.asgi import application
from runs.access import guest_view
from runs.access.tokens import create_token
from runs.live import greeting, handshake, rights_watch
from runs.models import AccessToken, Run, TokenScope
from tests.support.sockets import HOST, TIMEOUT_S

VIEWERS = 12


class Calls:
    """Wraps functions of modules and counts their calls."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        self.made: dict[str, int] = {}

    def count(self, module: object, name: str) -> None:
        called: Callable[..., Any] = getattr(module, name)
        self.made[name] = 0

        def counted(*arguments: Any, **named: Any) -> Any:
            self.made[name] += 1
            return called(*arguments, **named)

        self._patch.setattr(module, name, counted)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Count accesses to the database. Cached answers do not expire, so that a slow machine makes no more accesses."""
    for module, name in (
        (greeting, "LONGEST_SNAPSHOT_AGE_S"), (rights_watch, "LONGEST_ANSWER_AGE_S"),
        (handshake, "LONGEST_ANSWER_AGE_S"), (rights_watch, "CHECK_INTERVAL_S"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, 3600)
    found = Calls(monkeypatch)
    for module, name in (
        (greeting, "find"), (greeting, "replay"), (guest_view, "nameless_frames"), (rights_watch, "check_grants"),
        (handshake, "find_token"),
    ):  # fmt: skip
        found.count(module, name)
    return found


def share(run: Run) -> tuple[AccessToken, str]:
    return create_token(User.objects.get(username="operator"), run.project, TokenScope.SHARE, name="hall", run=run)


def guest(run: Run, token: str, since: int | None = None) -> WebsocketCommunicator:
    query = f"?token={token}" + (f"&since={since}" if since is not None else "")
    return WebsocketCommunicator(application, f"/ws/runs/{run.pk}/{query}", [HOST])


async def greeted(socket: WebsocketCommunicator) -> dict[str, Any]:
    assert (await socket.connect(timeout=TIMEOUT_S))[0]
    return dict(await socket.receive_json_from(TIMEOUT_S))


async def gone(*sockets: WebsocketCommunicator) -> None:
    for socket in sockets:
        await socket.disconnect()
