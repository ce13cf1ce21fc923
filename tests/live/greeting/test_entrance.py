"""Cached tokens and rights grant no access after they have ended."""

from __future__ import annotations

import asyncio
import threading
from unittest import TestCase

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.db import OperationalError

from runs.access.grants import Grant
from runs.access.roles import Viewer
from runs.access.tokens import revoke
from runs.live import handshake, hub, rights_watch
from runs.models import AccessToken, Membership, Run, UsedTicket
from tests.live.greeting.guests import calls, gone, greeted, guest, share
from tests.support.sockets import TIMEOUT_S, closed_with, code_of, connect, greet, live, people

__all__ = ["calls", "people"]


@live
async def test_a_token_that_was_revoked_opens_nothing_more_whatever_is_remembered(people, one, two):
    token, value = await database_sync_to_async(share)(one)
    socket = guest(one, value)
    await greeted(socket)
    await database_sync_to_async(revoke)(token)
    # The announcement of the revocation has arrived here.
    assert await code_of(socket) == 4401
    assert await closed_with(guest(one, value)) == 4401


@live
async def test_a_right_that_ended_unheard_opens_nothing_once_the_answer_is_old(people, one, two):
    token, value = await database_sync_to_async(share)(one)
    socket = guest(one, value)
    await greeted(socket)
    await AccessToken.objects.filter(pk=token.pk).aupdate(revoked_at=token.created_at)
    with pytest.MonkeyPatch.context() as patch:
        # The token itself is still cached.
        patch.setattr(rights_watch, "LONGEST_ANSWER_AGE_S", 0)
        assert await closed_with(guest(one, value)) == 4401
    await gone(socket)


def test_an_answer_of_before_a_change_lets_nobody_in(monkeypatch):
    """This also holds before the guard has checked again: the announcement of a change is enough."""
    answers: list[Viewer | int] = [Viewer(1, "Ada", "viewer"), 4403]
    monkeypatch.setattr(rights_watch, "check_grants", lambda grants: dict.fromkeys(grants, answers.pop(0)))

    async def check() -> None:
        guard = rights_watch.RightsWatch()
        for _ in range(2):
            assert isinstance(await guard.viewer_of(Grant(1, 1)), Viewer)
        guard.wake()
        assert await guard.viewer_of(Grant(1, 1)) == 4403

    asyncio.run(check())


@live
async def test_a_refusal_is_not_remembered(people, one, two):
    assert await closed_with(await connect(one, people["stranger"])) == 4403
    await Membership.objects.acreate(project_id=one.project_id, user=people["stranger"], role="viewer")
    socket, hello = await greet(one, people["stranger"])
    assert hello["viewer"]["role"] == "viewer"
    await gone(socket)


def test_it_remembers_a_bounded_number_of_tokens(people, layer, calls, monkeypatch):
    monkeypatch.setattr(handshake, "MOST_KNOWN_TOKENS", 3)

    async def check() -> None:
        run = await Run.objects.afirst()
        for _ in range(5):
            _, value = await database_sync_to_async(share)(run)
            socket = guest(run, value)
            await greeted(socket)
            await gone(socket)
        assert len(hub.current_hub().entrance._known) <= 3

    async_to_sync(check)()


@live
async def test_a_ticket_that_cannot_be_redeemed_in_time_sends_the_viewer_for_a_new_one(people, one, two):
    may_go_on = threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handshake, "LONGEST_REDEEMING_S", 0.05)
        patch.setattr(handshake, "spend_ticket", lambda value: may_go_on.wait(TIMEOUT_S))
        try:
            assert await closed_with(await connect(one, people["viewer"])) == 1013
        finally:
            may_go_on.set()
    socket, _ = await greet(one, people["viewer"])
    await gone(socket)


@live
async def test_the_log_says_once_that_tickets_cannot_be_redeemed_and_once_that_they_can(people, one, two):
    def fail(value: str) -> bool:
        raise OperationalError("database is locked")

    with TestCase().assertLogs(handshake.logger, "WARNING") as said:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handshake, "spend_ticket", fail)
            for _ in range(3):
                assert await closed_with(await connect(one, people["viewer"])) == 1013
        for _ in range(2):
            socket, _ = await greet(one, people["viewer"])
            await gone(socket)
    failing, works = said.output
    assert "cannot be redeemed" in failing and "can connect again" in works


@live
async def test_expired_tickets_are_removed_behind_the_viewers(people, one, two):
    await UsedTicket.objects.acreate(digest="old", expires_at=one.created_at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handshake, "FORGET_EVERY_S", -1)
        socket, _ = await greet(one, people["viewer"])
        async with asyncio.timeout(TIMEOUT_S):
            while await UsedTicket.objects.filter(digest="old").aexists():
                await asyncio.sleep(0.01)
    await gone(socket)
