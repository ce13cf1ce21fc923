"""A crowd is greeted with one look at the database, and each viewer holds every event once and in order."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User

from monitor_site.asgi import application
from runs.access import guest_view
from runs.access.grants import Grant
from runs.access.roles import Viewer
from runs.access.tokens import create_token, revoke
from runs.commands.record import record
from runs.live import greeting, handshake, hub, rights_watch
from runs.live.frames import Frame
from runs.live.greeting import Greeter, Ring, read_snapshot
from runs.live.hello import bounded_hello, find
from runs.live.outbox import Outbox
from runs.live.room import Room
from runs.models import AccessToken, Membership, Run, TokenScope, UsedTicket
from runs.protocol.commands import parse_command
from runs.protocol.events import Hello, encode_message
from runs.recording.lifecycle import HEARTBEAT_INTERVAL_S
from tests.support.sockets import (
    HOST,
    TIMEOUT_S,
    answer,
    append,
    closed_with,
    code_of,
    connect,
    greet,
    live,
    no_more,
    numbered,
    people,
)

__all__ = ["people"]
STORIES = 300
VIEWERS = 12


class Calls:
    """Functions of modules that are called as before, and counted."""

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
    """Count what is asked of the database; nothing grows old, so that slow machines ask no more than others."""
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


def test_a_crowd_by_one_link_asks_the_database_once(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        _, token = await database_sync_to_async(share)(run)
        sockets = [guest(run, token) for _ in range(VIEWERS)]
        hellos = await asyncio.gather(*(greeted(socket) for socket in sockets))
        assert all(hello["viewer"] == {"name": "", "role": "share", "may": []} for hello in hellos)
        # Who comes while the guard asks waits for the next answer.
        assert calls.made.pop("check_grants") in (1, 2)
        assert calls.made == {"find": 1, "replay": 0, "nameless_frames": 0, "find_token": 1}
        await sync_to_async(append)(run, 1)
        assert [(await numbered(socket))["seq"] for socket in sockets] == [1] * VIEWERS
        await gone(*sockets)

    async_to_sync(check)()


def test_members_who_come_together_are_asked_about_together(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        first, _ = await greet(run, people["operator"])
        asked, read = calls.made["check_grants"], calls.made["find"]
        sockets = [await connect(run, people[name]) for name in ("viewer", "operator") * 4]
        roles = [hello["viewer"]["role"] for hello in await asyncio.gather(*(greeted(socket) for socket in sockets))]
        assert roles == ["viewer", "operator"] * 4
        assert calls.made["check_grants"] - asked in (1, 2) and calls.made["find"] == read
        await gone(first, *sockets)

    async_to_sync(check)()


@live
async def test_an_older_snapshot_is_followed_by_what_came_since(people, one, two):
    first, hello = await greet(one, people["viewer"])
    for step in (1, 2, 3):
        await sync_to_async(append)(one, step)
    assert hello["seq"] == 0 and [(await numbered(first))["seq"] for _ in range(3)] == [1, 2, 3]
    second, hello = await greet(one, people["viewer"])
    assert hello["seq"] == 0 and not hello["replay"]
    assert [(await numbered(second))["seq"] for _ in range(3)] == [1, 2, 3]
    await sync_to_async(append)(one, 4)
    assert (await numbered(second))["seq"] == (await numbered(first))["seq"] == 4
    await no_more(second)
    await gone(first, second)


@live
async def test_no_snapshot_is_behind_what_the_viewer_holds(people, one, two):
    first, _ = await greet(one, people["viewer"])
    for step in (1, 2, 3):
        await sync_to_async(append)(one, step)
    assert [(await numbered(first))["seq"] for _ in range(3)] == [1, 2, 3]
    second, hello = await greet(one, people["viewer"], since=2)
    assert hello["seq"] == 3 and hello["replay"]
    assert (await numbered(second))["seq"] == 3
    await no_more(second)
    await gone(first, second)


@live
async def test_a_snapshot_that_has_grown_old_is_read_anew(people, one, two):
    first, _ = await greet(one, people["viewer"])
    await Run.objects.filter(pk=one.pk).aupdate(name="renamed")
    second, hello = await greet(one, people["viewer"])
    assert hello["run"]["name"] == "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greeting, "LONGEST_SNAPSHOT_AGE_S", 0)
        third, hello = await greet(one, people["viewer"])
    assert hello["run"]["name"] == "renamed"
    await gone(first, second, third)


def test_who_comes_back_is_told_what_it_missed_without_a_query(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        first, _ = await greet(run, people["viewer"])
        for step in range(1, 6):
            await sync_to_async(append)(run, step)
        assert [(await numbered(first))["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
        for since in (1, 4, 5):
            socket, hello = await greet(run, people["viewer"], since=since)
            assert hello["replay"]
            assert [(await numbered(socket))["seq"] for _ in range(5 - since)] == list(range(since + 1, 6))
            await no_more(socket)
            await gone(socket)
        assert calls.made["replay"] == 0
        await gone(first)

    async_to_sync(check)()


def test_a_crowd_that_comes_back_to_a_new_server_reads_the_missed_events_once(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        for step in range(1, 6):
            await sync_to_async(append)(run, step)
        sockets = [await connect(run, people["viewer"], since=2) for _ in range(VIEWERS)]
        hellos = await asyncio.gather(*(greeted(socket) for socket in sockets))
        assert all(hello["replay"] and hello["seq"] == 5 for hello in hellos)
        for socket in sockets:
            assert [(await numbered(socket))["seq"] for _ in range(3)] == [3, 4, 5]
        assert calls.made["replay"] == 1
        await gone(*sockets)

    async_to_sync(check)()


@live
async def test_who_misses_more_than_is_kept_loads_the_history_again(people, one, two):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greeting, "LARGEST_RING_EVENTS", 2)
        first, _ = await greet(one, people["viewer"])
        for step in (1, 2, 3, 4):
            await sync_to_async(append)(one, step)
        assert [(await numbered(first))["seq"] for _ in range(4)] == [1, 2, 3, 4]
        second, hello = await greet(one, people["viewer"], since=1)
        assert hello["seq"] == 4 and not hello["replay"]
        assert (await answer(second, "resync"))["seq"] == 4
        await no_more(second)
        await gone(first, second)


def test_guests_see_no_names_whoever_came_first(people, layer, calls):
    async def check() -> None:
        run = await Run.objects.afirst()
        operator = people["operator"]
        _, token = await database_sync_to_async(share)(run)
        member, hello = await greet(run, operator)
        stop = parse_command({"command": "stop"})
        await sync_to_async(record)(run.pk, stop, author_id=operator.pk, author_name="Olga Person")
        assert (await numbered(member))["author"] == "Olga Person"
        sockets = [guest(run, token, since=0) for _ in range(VIEWERS)]
        hellos = await asyncio.gather(*(greeted(socket) for socket in sockets))
        assert [command["author"] for hello in hellos for command in hello["run"]["commands"]] == ["operator"] * VIEWERS
        assert [(await numbered(socket))["author"] for socket in sockets] == ["operator"] * VIEWERS
        assert calls.made["nameless_frames"] == 1
        other, hello = await greet(run, operator, since=0)
        assert hello["run"]["commands"][0]["author"] == (await numbered(other))["author"] == "Olga Person"
        await gone(member, other, *sockets)

    async_to_sync(check)()


@live
async def test_one_who_leaves_takes_the_greeting_from_nobody(people, one, two):
    begun, may_go_on = threading.Event(), threading.Event()

    def slow(run_id: int) -> Any:
        begun.set()
        may_go_on.wait(TIMEOUT_S)
        return find(run_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greeting, "find", slow)
        sockets = [await connect(one, people["viewer"]) for _ in range(2)]
        for socket in sockets:
            assert (await socket.connect(timeout=TIMEOUT_S))[0]
        await asyncio.to_thread(begun.wait, TIMEOUT_S)
        sockets[0].stop(exceptions=False)
        may_go_on.set()
        assert (await sockets[1].receive_json_from(TIMEOUT_S))["kind"] == "hello"
        await gone(sockets[1])


@pytest.mark.django_db
def test_a_spliced_hello_is_what_the_whole_one_would_be(people):
    run = Run.objects.get(name="one")
    snapshot = read_snapshot(run.pk, for_guests=True)
    viewer = Viewer(user_id=1, name='Ada "the" Ünı', role="operator")
    told = json.loads(snapshot.hello(viewer, replays=True, life="silent", link="live"))
    parts = find(run.pk)
    whole = Hello(
        seq=parts.run.last_seq,
        replay=True,
        run=parts.snapshot,
        latest=parts.latest,
        viewer={"name": viewer.name, "role": viewer.role, "may": viewer.may},
        server_time=told["server_time"],
        heartbeat_interval_s=HEARTBEAT_INTERVAL_S,
        life="silent",
        link="live",
    )
    assert told == json.loads(encode_message(bounded_hello(whole)))


# Who may enter.


@live
async def test_a_token_that_was_revoked_opens_nothing_more_whatever_is_remembered(people, one, two):
    token, value = await database_sync_to_async(share)(one)
    socket = guest(one, value)
    await greeted(socket)
    await database_sync_to_async(revoke)(token)
    # The word of it has come here.
    assert await code_of(socket) == 4401
    assert await closed_with(guest(one, value)) == 4401


@live
async def test_a_right_that_ended_unheard_opens_nothing_once_the_answer_is_old(people, one, two):
    token, value = await database_sync_to_async(share)(one)
    socket = guest(one, value)
    await greeted(socket)
    await AccessToken.objects.filter(pk=token.pk).aupdate(revoked_at=token.created_at)
    with pytest.MonkeyPatch.context() as patch:
        # The token itself is still remembered.
        patch.setattr(rights_watch, "LONGEST_ANSWER_AGE_S", 0)
        assert await closed_with(guest(one, value)) == 4401
    await gone(socket)


def test_an_answer_of_before_a_change_lets_nobody_in(monkeypatch):
    """Also before the guard has looked again: the word that something changed is enough."""
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
async def test_expired_tickets_are_removed_behind_the_viewers(people, one, two):
    await UsedTicket.objects.acreate(digest="old", expires_at=one.created_at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handshake, "FORGET_EVERY_S", -1)
        socket, _ = await greet(one, people["viewer"])
        async with asyncio.timeout(TIMEOUT_S):
            while await UsedTicket.objects.filter(digest="old").aexists():
                await asyncio.sleep(0.01)
    await gone(socket)


# No seam, whatever happens in which order.


def test_the_ring_keeps_the_newest_events_within_its_bounds(monkeypatch):
    monkeypatch.setattr(greeting, "LARGEST_RING_EVENTS", 3)
    monkeypatch.setattr(greeting, "LARGEST_RING_BYTES", 100)
    ring = Ring(10)
    assert ring.after(10) == [] and ring.after(9) is None

    def frame(seq: int, size: int = 10) -> Frame:
        return Frame(seq, "x" * size)

    def held_after(seq: int) -> list[int] | None:
        found = ring.after(seq)
        return None if found is None else [frame.seq for frame in found]

    for seq in (11, 12, 13, 14):
        ring.append(frame(seq))
    assert held_after(10) is None and held_after(12) == [13, 14] and held_after(14) == []
    ring.append(frame(15, 85))
    assert held_after(13) == [14, 15] and held_after(12) is None
    ring.append(frame(16, 120))
    assert held_after(15) is None and held_after(16) == []
    ring.append(frame(18))
    assert held_after(16) is None and held_after(17) == [18]
    assert not ring.put_before([frame(17, 95)]) and ring.put_before([frame(16), frame(17)])
    assert held_after(15) == [16, 17, 18]


class Story:
    """A run whose events are stored and later handed on, and viewers who come in between, all by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stored: list[str] = []
        self.folded = 0
        self.room = Room(1, 0, 0, 0.0, True)
        self.wrong: list[str] = []

    def frame(self, seq: int) -> str:
        return f'{{"seq":{seq},"kind":"log"}}'

    async def pause(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    def reading(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def read(*arguments: Any) -> Any:
            await self.pause()
            found = self.read_snapshot() if function is read_snapshot else self.replay(*arguments)
            await self.pause()
            return found

        return read

    def read_snapshot(self) -> greeting.Snapshot:
        return greeting.Snapshot(len(self.stored), self.folded, greeting.time.monotonic(), b"{}", b"{}")

    def replay(self, run_id: int, after: int, limit: int, most_bytes: int) -> list[tuple[int, str]]:
        rows = [(seq, self.frame(seq)) for seq in range(max(after, self.folded) + 1, len(self.stored) + 1)]
        return rows[:limit]

    async def record(self) -> None:
        """Store events, and hand them on later, or read over some that were folded meanwhile."""
        for _ in range(30):
            await self.pause()
            self.stored += ["event"] * self.chance.randrange(3)
            if self.chance.random() < 0.1:
                self.folded = self.chance.randint(self.folded, len(self.stored))
            if self.chance.random() < 0.7:
                self.hand_on()
        self.hand_on()

    def hand_on(self) -> None:
        while self.room.last_seq < len(self.stored):
            if self.chance.random() < 0.03:
                self.room.skip(self.room.last_seq + 1)
            else:
                self.room.deliver(self.room.last_seq + 1, self.frame(self.room.last_seq + 1))

    async def view(self, greeter: Greeter) -> None:
        """Come at some moment, with some event, and look at the end at what came."""
        for _ in range(self.chance.randrange(20)):
            await self.pause()
        since = self.chance.choice([None, self.chance.randint(0, len(self.stored)), len(self.stored) + 7])
        outbox = Outbox()
        self.room.outboxes.add(outbox)
        found = await greeter.greet(since, is_guest=self.chance.random() < 0.5)
        begin = since if found.replays and since is not None else found.snapshot.seq
        got = [json.loads(frame.text)["seq"] for frame in found.frames]
        self.viewers.append((since, begin, got, found, outbox))

    async def play(self) -> list[str]:
        self.viewers: list[Any] = []
        viewing = [self.view(self.room.greeter) for _ in range(6)]
        async with asyncio.timeout(30):
            await asyncio.gather(self.record(), *viewing)
            self.room.flush()  # the last event may wait for one more
            for since, begin, got, found, outbox in self.viewers:
                outbox.open(found.last_seq, None, lambda: None)
                came = [(frame.seq, frame.text) for frame in iter(outbox.take, None)]
                held, resynced = begin, begin
                for seq in got:
                    self.expect(seq == held + 1, f"greeted with {seq} after {held}")
                    held = seq
                self.expect(held >= begin and found.last_seq == held, f"last {found.last_seq}, held {held}")
                for seq, frame in came:
                    if json.loads(frame)["kind"] == "resync":
                        resynced = held = seq
                        continue
                    self.expect(seq == held + 1, f"{seq} after {held}")
                    held = seq
                self.expect(held == len(self.stored), f"holds {held} of {len(self.stored)}")
                self.expect(since is None or not found.replays or found.snapshot.seq >= since, "an older snapshot")
                self.expect(resynced <= held, "resynced beyond the end")
        return self.wrong

    def expect(self, right: bool, otherwise: str) -> None:
        if not right:
            self.wrong.append(otherwise)


@pytest.fixture
def small_rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(greeting, "LARGEST_RING_EVENTS", 15)
    return


@pytest.mark.parametrize("oldest_s", [0, 3600])
def test_every_viewer_holds_each_event_once_and_in_order(monkeypatch, small_rings, oldest_s):
    monkeypatch.setattr(greeting, "LONGEST_SNAPSHOT_AGE_S", oldest_s)
    wrong = {}
    replayed = 0
    for seed in range(STORIES):
        story = Story(seed)
        monkeypatch.setattr(greeting, "reading", story.reading)
        found = asyncio.run(story.play())
        replayed += sum(bool(viewer[3].replays) for viewer in story.viewers)
        if found:
            wrong[seed] = found
    assert not wrong
    assert replayed > STORIES, "let some viewers come back"
