"""Sockets close when their permission is gone: the right ones, with the right code, and no others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.usersessions.models import UserSession
from asgiref.sync import async_to_sync, sync_to_async
from channels.db import database_sync_to_async
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client, override_settings
from django.utils import timezone

from monitor_site.asgi import application
from runs.access.grants import Grant, check_grants
from runs.access.tickets import issue_ticket
from runs.access.tokens import create_token, revoke
from runs.commands.record import record
from runs.live import hub as hub_module
from runs.models import AccessToken, Command, Membership, Project, Run, TokenScope
from runs.protocol.commands import parse_command
from tests.support.sockets import HOST, TIMEOUT_S, code_of

PASSWORD = "a long and quiet river"


@pytest.fixture
def run(transactional_db: None, layer: None, settings: Any, monkeypatch: Any) -> Run:
    """A run watched over a real layer. The periodic check is off, so only announcements count."""
    monkeypatch.setattr("runs.live.rights_watch.CHECK_INTERVAL_S", 3600)
    project = Project.objects.create(name="Lab", slug="lab")
    for role in ("owner", "operator", "viewer"):
        user = User.objects.create_user(role, password=PASSWORD)
        Membership.objects.create(project=project, user=user, role=role)
    return Run.objects.create(project=project, name="one", state="running", attempt=1)


async def opened(run: Run, *, query: str = "", ticket: str = "", bearer: str = "") -> WebsocketCommunicator:
    """Open a socket and return it once it was greeted; `hello` is stored as its attribute."""
    socket = WebsocketCommunicator(
        application,
        f"/ws/runs/{run.pk}/{query}",
        [HOST, *([(b"authorization", f"Bearer {bearer}".encode())] if bearer else [])],
        subprotocols=["steersman.v1", f"ticket.{ticket}"] if ticket else ["steersman.v1"],
    )
    assert (await socket.connect(timeout=TIMEOUT_S))[0]
    socket.hello = await socket.receive_json_from(TIMEOUT_S)
    return socket


async def refused(run: Run, *, query: str = "", bearer: str = "") -> int:
    """Return the close code of a refused handshake."""
    headers = [HOST, *([(b"authorization", f"Bearer {bearer}".encode())] if bearer else [])]
    socket = WebsocketCommunicator(application, f"/ws/runs/{run.pk}/{query}", headers)
    assert (await socket.connect(timeout=TIMEOUT_S))[0]
    first = await socket.receive_output(TIMEOUT_S)
    assert first["type"] == "websocket.close"
    return int(first["code"])


async def by_session(run: Run, name: str) -> tuple[Client, WebsocketCommunicator]:
    def ask() -> tuple[Client, str]:
        client = Client()
        client.force_login(User.objects.get(username=name))
        answer = client.post("/api/tickets/", {"run": run.pk}, content_type="application/json")
        return client, answer.json()["ticket"]

    client, ticket = await database_sync_to_async(ask)()
    return client, await opened(run, ticket=ticket)


def make(run: Run, scope: str, name: str = "operator", **fields: Any) -> tuple[AccessToken, str]:
    creator = User.objects.get(username=name)
    return create_token(creator, run.project, scope, name="script", run=run, **fields)


def log_out(client: Client) -> None:
    client.post("/logout/")


def change_password(client: Client) -> None:
    new = "another long and quiet river"
    answer = client.post("/password/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert answer.status_code == 302


def reset_password(client: Client) -> None:
    user = User.objects.get(username="operator")
    user.set_password("set by somebody else")
    user.save()


def deactivate(client: Client) -> None:
    user = User.objects.get(username="operator")
    user.is_active = False
    user.save()


def delete_sessions(client: Client) -> None:
    Session.objects.filter(session_key=client.session.session_key).delete()


def end_from_elsewhere(client: Client) -> None:
    """End the session on the page of another session."""
    elsewhere = Client()
    elsewhere.force_login(User.objects.get(username="operator"))
    held = UserSession.objects.get(session_key=client.session.session_key)
    assert elsewhere.post(f"/sessions/{held.pk}/end/").status_code == 302


def delete_user(client: Client) -> None:
    User.objects.get(username="operator").delete()


def remove_member(client: Client) -> None:
    Membership.objects.get(user__username="operator").delete()


def lower_role(client: Client) -> None:
    own = Membership.objects.get(user__username="operator")
    own.role = "viewer"
    own.save()


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (log_out, 4401),
        (change_password, 4401),
        (reset_password, 4401),
        (deactivate, 4401),
        (delete_sessions, 4401),
        (end_from_elsewhere, 4401),
        (delete_user, 4401),
        (remove_member, 4403),
        (lower_role, 4409),
    ],
)
def test_it_closes_the_sockets_of_a_session_and_no_others(run: Run, act: Callable[[Client], None], code: int) -> None:
    async def check() -> None:
        client, socket = await by_session(run, "operator")
        _, other = await by_session(run, "viewer")
        await database_sync_to_async(act)(client)
        assert await code_of(socket) == code
        await other.send_json_to({"kind": "ping", "echo": "still here"})
        while (await other.receive_json_from(TIMEOUT_S))["kind"] != "pong":
            pass
        await socket.disconnect()
        await other.disconnect()

    async_to_sync(check)()


def revoke_row(token: AccessToken) -> None:
    revoke(token)


def delete_row(token: AccessToken) -> None:
    token.delete()


def remove_creator(token: AccessToken) -> None:
    Membership.objects.get(user=token.created_by).delete()


def lower_creator(token: AccessToken) -> None:
    own = Membership.objects.get(user=token.created_by)
    own.role = "viewer"
    own.save()


@pytest.mark.parametrize(
    ("scope", "act", "code"),
    [
        (TokenScope.COMMAND, revoke_row, 4401),
        (TokenScope.COMMAND, delete_row, 4401),
        (TokenScope.COMMAND, remove_creator, 4403),
        (TokenScope.COMMAND, lower_creator, 4409),
        (TokenScope.SHARE, revoke_row, 4401),
        (TokenScope.SHARE, remove_creator, 4403),
    ],
)
def test_it_closes_the_sockets_of_a_token(run: Run, scope: str, act: Callable[[AccessToken], None], code: int) -> None:
    async def check() -> None:
        token, value = await database_sync_to_async(make)(run, scope)
        how = {"query": f"?token={value}"} if scope == TokenScope.SHARE else {"bearer": value}
        socket = await opened(run, **how)
        await database_sync_to_async(act)(token)
        assert await code_of(socket) == code
        await socket.disconnect()

    async_to_sync(check)()


@pytest.mark.parametrize("layer_away", [False, True])
def test_it_closes_what_nobody_told_of_at_the_next_look(run: Run, monkeypatch: Any, layer_away: bool) -> None:
    """An expiry is not announced, and a message may be lost."""
    monkeypatch.setattr("runs.live.rights_watch.CHECK_INTERVAL_S", 0.1)

    async def check() -> None:
        token, value = await database_sync_to_async(make)(
            run, TokenScope.VIEW, expires_at=timezone.now() + timedelta(hours=1)
        )
        socket = await opened(run, bearer=value)
        past = {"expires_at": timezone.now() - timedelta(seconds=1)}
        await AccessToken.objects.filter(pk=token.pk).aupdate(
            **({"revoked_at": timezone.now()} if layer_away else past)
        )
        assert await code_of(socket) == 4401
        await socket.disconnect()

    nowhere = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": ["unix:///nowhere/redis.sock"]},
    }
    if layer_away:
        with override_settings(CHANNEL_LAYERS={"default": nowhere}):
            channel_layers.backends.clear()
            async_to_sync(check)()
    else:
        async_to_sync(check)()


def test_a_ticket_opens_nothing_once_its_session_or_token_is_gone(run: Run) -> None:
    async def check() -> None:
        def ended() -> tuple[str, str]:
            client = Client()
            client.force_login(User.objects.get(username="operator"))
            by_session = client.post("/api/tickets/", {"run": run.pk}, content_type="application/json").json()["ticket"]
            client.post("/logout/")
            token, _ = make(run, TokenScope.VIEW)
            by_token = issue_ticket(token.created_by, run, token=token)
            revoke(token)
            return by_session, by_token

        for ticket in await database_sync_to_async(ended)():
            assert await refused(run, query=f"?token={ticket}") == 4401

    async_to_sync(check)()


def test_it_takes_no_long_lived_token_in_an_address(run: Run) -> None:
    async def check() -> None:
        _, view = await database_sync_to_async(make)(run, TokenScope.VIEW)
        _, share = await database_sync_to_async(make)(run, TokenScope.SHARE)
        assert await refused(run, query=f"?token={view}") == 4401
        assert await refused(run, bearer=share) == 4401
        assert await refused(run, bearer="stm_invented") == 4401
        socket = await opened(run, bearer=view)
        assert socket.hello["viewer"] == {"name": "operator (script)", "role": "viewer", "may": []}
        await socket.disconnect()

    async_to_sync(check)()


def test_a_token_is_for_its_run_alone(run: Run) -> None:
    async def check() -> None:
        other = await Run.objects.acreate(project=run.project, name="two")
        _, value = await database_sync_to_async(make)(run, TokenScope.SHARE)
        assert await refused(other, query=f"?token={value}") == 4403

    async_to_sync(check)()


def test_a_share_link_sees_roles_and_may_ask_nothing(run: Run) -> None:
    async def check() -> None:
        operator = await User.objects.aget(username="operator")
        _, value = await database_sync_to_async(make)(run, TokenScope.SHARE)
        ask = sync_to_async(record)
        await ask(run.pk, parse_command({"command": "stop"}), author_id=operator.pk, author_name="Olga Person")
        socket = await opened(run, query=f"?token={value}&since=0")
        assert socket.hello["viewer"] == {"name": "", "role": "share", "may": []}
        assert socket.hello["run"]["commands"][0]["author"] == "operator"
        assert (await socket.receive_json_from(TIMEOUT_S))["author"] == "operator"
        await ask(run.pk, parse_command({"command": "stop"}), author_id=operator.pk, author_name="Olga Person")
        while (event := await socket.receive_json_from(TIMEOUT_S))["kind"] != "command":
            pass
        assert event["author"] == "operator"
        await socket.send_json_to({"command": "stop"})
        while (event := await socket.receive_json_from(TIMEOUT_S))["kind"] != "error":
            pass
        assert "operator" in event["error"]
        assert await Command.objects.acount() == 2
        await socket.disconnect()

    async_to_sync(check)()


def test_it_stops_looking_with_the_last_socket(run: Run) -> None:
    async def check() -> None:
        _, socket = await by_session(run, "viewer")
        guard = hub_module.current_hub().guard
        assert guard._checking is not None
        await socket.disconnect()
        assert guard._checking is None

    async_to_sync(check)()


def test_it_asks_about_many_sockets_in_five_queries(run: Run, django_assert_num_queries: Any) -> None:
    token, _ = make(run, TokenScope.VIEW)
    users = [User.objects.create(username=f"u{place}") for place in range(30)]
    Membership.objects.bulk_create([Membership(project=run.project, user=user) for user in users])
    grants = [Grant(run.pk, user.pk, session_key=f"s{user.pk}") for user in users]
    grants += [Grant(run.pk, user.pk) for user in users] + [Grant(run.pk, token.created_by_id, token_id=token.pk)]
    with django_assert_num_queries(5):
        found = check_grants(grants)
    assert [found[grant] for grant in grants[:30]] == [4401] * 30
    assert not any(isinstance(found[grant], int) for grant in grants[30:])
