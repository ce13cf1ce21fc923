"""Sockets of runs inside this process: people of a project with two runs, and what their sockets receive."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User

from monitor_site.asgi import application
from runs.access.grants import Grant
from runs.access.tickets import issue_ticket, read_ticket, spend_ticket
from runs.models import Membership, Project, Run
from runs.protocol.events import Block
from runs.recording import feed
from tests.support.stored_points import metrics_event

TIMEOUT_S = 60


@pytest.fixture
def people(transactional_db: None) -> dict[str, User]:
    project = Project.objects.create(name="Lab", slug="lab")
    made = {name: User.objects.create_user(name) for name in ("operator", "viewer", "stranger")}
    for role in ("operator", "viewer"):
        Membership.objects.create(project=project, user=made[role], role=role)
    for name in ("one", "two"):
        Run.objects.create(
            project=project,
            name=name,
            state="running",
            attempt=1,
            handled_commands=["evaluate", "extend", "save_checkpoint"],
        )
    return made


def live(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test on one loop, with the database and a real channel layer."""

    @pytest.mark.django_db(transaction=True)
    def run(people: dict[str, User], layer: None) -> None:
        runs = list(Run.objects.order_by("pk"))
        async_to_sync(test)(people, *runs)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


def redeem_ticket(value: str, run_id: int) -> Grant | None:
    """Use a ticket as a handshake does; return its grant, or None if it is invalid."""
    grant = read_ticket(value, run_id)
    return grant if grant is not None and spend_ticket(value) else None


def append(run: Run, *steps: int) -> int:
    block = Block(
        steps=list(steps), times=[float(step) for step in steps], values={"loss": [step / 2 for step in steps]}
    )
    return feed.append(run.pk, metrics_event([block]))


# The host that Django's tests allow.
HOST = (b"host", b"testserver:8765")


async def connect(
    run: Run,
    user: User | None,
    *,
    since: int | None = None,
    at: str = "",
    ticket: str | None = None,
    origin: str | None = None,
) -> WebsocketCommunicator:
    value = ticket if ticket is not None else await database_sync_to_async(issue_ticket)(user, run)
    query = f"?since={since}&at={at}" if since is not None else ""
    headers = [HOST] + ([(b"origin", origin.encode())] if origin else [])
    return WebsocketCommunicator(
        application, f"/ws/runs/{run.pk}/{query}", headers, subprotocols=["steersman.v1", f"ticket.{value}"]
    )


async def greet(run: Run, user: User, **options: Any) -> tuple[WebsocketCommunicator, dict[str, Any]]:
    socket = await connect(run, user, **options)
    connected, subprotocol = await socket.connect(timeout=TIMEOUT_S)
    assert connected and subprotocol == "steersman.v1"
    return socket, await socket.receive_json_from(TIMEOUT_S)


async def numbered(socket: WebsocketCommunicator) -> dict[str, Any]:
    """Return the next event with a number, and skip messages without one (link, life)."""
    while True:
        message = await socket.receive_json_from(TIMEOUT_S)
        if "seq" in message:
            return dict(message)


async def no_more(socket: WebsocketCommunicator) -> None:
    """Check that no further event with a number arrives."""
    while not await socket.receive_nothing(0.3, 0.05):
        message = await socket.receive_json_from(TIMEOUT_S)
        assert "seq" not in message, message


async def answer(socket: WebsocketCommunicator, kind: str) -> dict[str, Any]:
    while True:
        message = await socket.receive_json_from(TIMEOUT_S)
        if message["kind"] == kind:
            return dict(message)


async def closed_with(socket: WebsocketCommunicator) -> int:
    """Return the close code of a refused handshake."""
    connected, _ = await socket.connect(timeout=TIMEOUT_S)
    assert connected
    return await code_of(socket)


async def code_of(socket: WebsocketCommunicator) -> int:
    """Return the code with which an open socket is closed, and skip earlier messages."""
    while True:
        message = await socket.receive_output(TIMEOUT_S)
        if message["type"] == "websocket.close":
            return int(message["code"])
