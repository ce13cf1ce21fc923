"""The WebSocket of a run with the real application and a real channel layer: who receives what, in which order."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from unittest import TestCase

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.consumer import AsyncConsumer
from channels.db import database_sync_to_async
from channels.layers import channel_layers, get_channel_layer
from channels.testing import ApplicationCommunicator, WebsocketCommunicator
from django.test import override_settings
from django.utils import timezone

from monitor_site.asgi import application
from runs.access.tickets import issue_ticket
from runs.live import hub as hub_module
from runs.live import room as room_module
from runs.models import Command, Membership, Run
from runs.protocol.commands import COMMANDS
from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed, liveness
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


@live
async def test_it_shows_each_run_to_its_own_viewers_only(people, one, two):
    first, hello_one = await greet(one, people["operator"])
    second, hello_two = await greet(two, people["viewer"])
    assert hello_one["run"]["name"] == "one" and hello_two["run"]["name"] == "two"
    await sync_to_async(append)(one, 1, 2)
    await sync_to_async(append)(two, 7)
    assert (await numbered(first))["blocks"][0]["steps"] == [1, 2]
    assert (await numbered(second))["blocks"][0]["steps"] == [7]
    await no_more(first)
    await first.disconnect()
    await second.disconnect()


@live
async def test_it_reaches_a_stock_consumer_that_joined_the_group(people, one, two):
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    class Stock(AsyncConsumer):
        async def stock_join(self, message: dict[str, Any]) -> None:
            await self.channel_layer.group_add(f"run.{one.pk}", self.channel_name)
            await self.send({"type": "stock.joined"})

        async def run_event(self, message: dict[str, Any]) -> None:
            await heard.put(message)

    stock = ApplicationCommunicator(Stock(), {"type": "stock"})
    await stock.send_input({"type": "stock.join"})
    await stock.receive_output(TIMEOUT_S)
    seq = await sync_to_async(append)(one, 5)
    message = await asyncio.wait_for(heard.get(), TIMEOUT_S)
    assert message["seq"] == seq and json.loads(message["event"])["blocks"][0]["steps"] == [5]
    stock.stop()


@live
async def test_it_joins_the_group_once_a_process_and_leaves_with_the_last_viewer(people, one, two):
    hub = hub_module.current_hub()
    sockets = [(await greet(one, people["viewer"]))[0] for _ in range(3)]
    assert len(hub._rooms) == 1 and len(hub._rooms[one.pk].outboxes) == 3
    await sync_to_async(append)(one, 1)
    for socket in sockets:
        assert (await numbered(socket))["blocks"][0]["steps"] == [1]
        await socket.disconnect()
    assert not hub._rooms


@live
async def test_it_replays_what_was_missed_and_nothing_twice(people, one, two):
    for step in range(1, 6):
        await sync_to_async(append)(one, step)
    socket, hello = await greet(one, people["viewer"], since=2)
    assert hello["replay"] is True and hello["seq"] == 5
    await sync_to_async(append)(one, 6)
    assert [(await numbered(socket))["seq"] for _ in range(4)] == [3, 4, 5, 6]
    await socket.disconnect()


@live
async def test_it_says_resync_where_the_missed_events_are_folded(people, one, two):
    for step in range(1, 4):
        await sync_to_async(append)(one, step)
    await Run.objects.filter(pk=one.pk).aupdate(replay_from=3)
    socket, hello = await greet(one, people["viewer"], since=1)
    assert hello["replay"] is False
    assert (await answer(socket, "resync"))["seq"] == 3
    await socket.disconnect()


@live
async def test_it_reads_from_the_database_what_the_layer_lost_doubled_or_swapped(people, one, two):
    socket, _ = await greet(one, people["viewer"])
    layer = get_channel_layer()
    await sync_to_async(append)(one, 1)
    assert (await numbered(socket))["seq"] == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "announce", lambda run_id, stored: None)
        for step in (2, 3, 4):
            await sync_to_async(append)(one, step)
    for seq in (4, 2, 4, 1):
        await layer.group_send(f"run.{one.pk}", {"type": "run.event", "run": one.pk, "seq": seq})
    assert [(await numbered(socket))["seq"] for _ in range(3)] == [2, 3, 4]
    await no_more(socket)
    await socket.disconnect()


@live
async def test_it_keeps_the_order_where_an_event_overtakes_those_before_it(people, one, two):
    """Announcements that contain the event: a later event is not shown before an earlier one, and no event twice."""
    socket, _ = await greet(one, people["viewer"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "announce", lambda run_id, stored: None)
        for step in (1, 2, 3):
            await sync_to_async(append)(one, step)
    frames = dict(await sync_to_async(feed.replay)(one.pk, 0, 10, 100_000))
    room = hub_module.current_hub()._rooms[one.pk]
    for seq in (3, 3, 2):
        message = {"type": "run.event", "run": one.pk, "seq": seq, "event": frames[seq]}
        await hub_module.current_hub()._heard(room, message)
        assert room.last_seq == 3
    assert [(await numbered(socket))["seq"] for _ in range(3)] == [1, 2, 3]
    await no_more(socket)
    await socket.disconnect()


@live
async def test_it_replays_nothing_that_the_hub_will_bring_too(people, one, two):
    """Events stored while the snapshot is read: the replay ends where the snapshot does."""
    for step in range(1, 4):
        await sync_to_async(append)(one, step)
    with pytest.MonkeyPatch.context() as patch:
        late = [(4, '{"seq":4,"kind":"log"}')]
        patch.setattr("runs.live.greeting.replay", lambda *asked: feed.replay(*asked) + late)
        socket, hello = await greet(one, people["viewer"], since=1)
        assert hello["replay"] is True
        assert [(await numbered(socket))["seq"] for _ in range(2)] == [2, 3]
        await no_more(socket)
    await socket.disconnect()


@live
async def test_it_carries_an_event_too_large_for_the_layer(people, one, two):
    socket, _ = await greet(one, people["viewer"])
    lines = [LogLine(text="x" * 1000) for _ in range(50)]
    await sync_to_async(feed.append)(one.pk, LogWritten(attempt=1, lines=lines))
    assert len((await numbered(socket))["lines"]) == 50
    await socket.disconnect()


@live
async def test_it_asks_for_a_ticket_and_takes_each_once(people, one, two):
    assert await closed_with(await connect(one, None, ticket="")) == 4401
    assert await closed_with(await connect(one, None, ticket="invented")) == 4401
    ticket = await database_sync_to_async(issue_ticket)(people["viewer"], one)
    assert await closed_with(await connect(two, None, ticket=ticket)) == 4401
    socket = await connect(one, None, ticket=ticket)
    assert (await socket.connect(timeout=TIMEOUT_S))[0]
    assert (await socket.receive_json_from(TIMEOUT_S))["kind"] == "hello"
    await socket.disconnect()
    assert await closed_with(await connect(one, None, ticket=ticket)) == 4401


@live
async def test_it_takes_the_ticket_as_a_query_too(people, one, two):
    ticket = await database_sync_to_async(issue_ticket)(people["viewer"], one)
    socket = WebsocketCommunicator(application, f"/ws/runs/{one.pk}/?token={ticket}", [HOST])
    assert (await socket.connect(timeout=TIMEOUT_S))[0]
    assert (await socket.receive_json_from(TIMEOUT_S))["viewer"]["role"] == "viewer"
    await socket.disconnect()


@live
async def test_it_shows_nothing_to_a_stranger(people, one, two):
    assert await closed_with(await connect(one, people["stranger"])) == 4403


@live
async def test_it_answers_an_unknown_address_with_4404(people, one, two):
    assert await closed_with(WebsocketCommunicator(application, "/ws/elsewhere/", [HOST])) == 4404


@live
async def test_it_refuses_a_handshake_for_another_host(people, one, two):
    for headers in ([], [(b"host", b"evil.example")], [(b"host", b"evil.example, testserver")]):
        socket = WebsocketCommunicator(application, f"/ws/runs/{one.pk}/", headers)
        connected, _ = await socket.connect(timeout=TIMEOUT_S)
        assert not connected, headers


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://testserver:8765", True),
        ("HTTP://TestServer:8765", True),
        ("https://testserver:8765", False),
        ("http://testserver", False),
        ("http://testserver:8765.evil.example", False),
        ("http://evil.example", False),
        ("http://testserver:port", False),
        ("http://user@testserver:8765", False),
        ("http://testserver:8765?own", False),
        ("http://testserver:8765#own", False),
        ("http://testserver:8765/own", False),
        ("http://test\tserver:8765", False),
        ("http://testserver:8765 ", False),
        ("null", False),
    ],
)
def test_it_compares_scheme_host_and_port_of_the_origin(people, layer, origin, allowed):
    async def check() -> None:
        run = await Run.objects.afirst()
        assert run is not None
        socket = await connect(run, people["viewer"], origin=origin)
        connected, _ = await socket.connect(timeout=TIMEOUT_S)
        assert connected is allowed
        await socket.disconnect()

    async_to_sync(check)()


@live
async def test_it_records_a_command_of_an_operator(people, one, two):
    socket, hello = await greet(one, people["operator"])
    assert hello["viewer"] == {"name": "operator", "role": "operator", "may": sorted(COMMANDS)}
    await socket.send_json_to({"command": "stop"})
    event = await numbered(socket)
    assert (event["kind"], event["command"], event["state"], event["author"]) == ("command", "stop", "sent", "operator")
    await socket.disconnect()


@live
async def test_it_takes_the_same_command_ten_times_as_once(people, one, two):
    socket, _ = await greet(one, people["operator"])
    message = {"kind": "command", "command": "stop", "id": "0c9e5b0e-6b5c-4b5e-9d0c-1f2e3d4c5b6a"}
    for _ in range(10):
        await socket.send_json_to(message)
    assert (await numbered(socket))["state"] == "sent"
    await socket.send_json_to({"kind": "ping", "echo": 1})
    assert (await answer(socket, "pong"))["echo"] == 1
    assert await Command.objects.acount() == 1
    await socket.disconnect()


@live
async def test_it_refuses_a_viewer_and_who_is_no_operator_any_more(people, one, two):
    viewer, _ = await greet(one, people["viewer"])
    await viewer.send_json_to({"command": "stop"})
    assert "operator" in (await answer(viewer, "error"))["error"]
    with pytest.MonkeyPatch.context() as patch:
        # The role must count at once, not only at the next check of all sockets.
        patch.setattr("runs.live.rights_watch.CHECK_INTERVAL_S", 60)
        await viewer.disconnect()
        operator, _ = await greet(one, people["operator"])
        await Membership.objects.filter(user=people["operator"]).aupdate(role="viewer")
        await operator.send_json_to({"command": "stop"})
        assert "operator" in (await answer(operator, "error"))["error"]
        await operator.disconnect()
    assert await Command.objects.acount() == 0


@live
async def test_it_refuses_in_words_what_the_state_does_not_allow(people, one, two):
    await Run.objects.filter(pk=one.pk).aupdate(state="finished")
    socket, _ = await greet(one, people["operator"])
    await socket.send_json_to({"command": "stop"})
    states = [await numbered(socket), await numbered(socket)]
    assert [event["state"] for event in states] == ["sent", "refused"]
    assert "finished" in states[1]["outcome"]
    await socket.disconnect()


@live
async def test_it_takes_the_whole_of_a_command_and_names_what_is_wrong_with_one(people, one, two):
    socket, _ = await greet(one, people["operator"])
    key = "0c9e5b0e-6b5c-4b5e-9d0c-1f2e3d4c5b6a"
    asked = {"command": "set_knob", "id": key, "arguments": {"knob": "rate", "value": 0.5}, "reason": "diverges"}
    for wrong, field in (
        ({"expire_in_s": 5}, "expire_in_s"), ({"at": {"step": 0}}, "at"), ({"arguments": {"value": 1}}, "knob"),
    ):  # fmt: skip
        await socket.send_json_to(asked | wrong)
        error = await answer(socket, "error")
        assert (error["field"], error["command_id"]) == (field, key)
    await socket.send_json_to(asked | {"at": {"epoch": 3}, "expect": {"value": 0.25}, "expires_in_s": 60})
    event = await numbered(socket)
    assert (event["id"], event["state"], event["reason"]) == (key, "sent", "diverges")
    assert (event["at_epoch"], event["expected_value"]) == (3, 0.25) and event["expires_at"] > event["sent_at"]
    await socket.disconnect()


@live
async def test_it_survives_malformed_messages_and_closes_after_ten(people, one, two):
    socket, _ = await greet(one, people["operator"])
    bad = ["{", "[]", "1", '{"kind":"dance"}', '{"command":"dance"}', '{"command":"stop","id":"x"}',
           '{"command":"stop","arguments":{"now":1}}', '{"kind":"ack","seq":"x"}', "x" * 64]  # fmt: skip
    for message in bad:
        await socket.send_to(text_data=message)
        assert (await answer(socket, "error"))["error"]
    await sync_to_async(append)(one, 1)
    assert (await numbered(socket))["seq"] == 1
    await socket.send_to(bytes_data=b"\x00")
    assert (await answer(socket, "error"))["error"]
    assert await code_of(socket) == 4400


@live
async def test_it_bounds_a_message_in_bytes_whatever_the_server_takes(people, one, two):
    for message in ({"text_data": "x" * 65_537}, {"text_data": "字" * 21_846}, {"bytes_data": b"x" * 65_537}):
        socket, _ = await greet(one, people["operator"])
        await socket.send_to(text_data=f'{{"kind": "ping", "echo": "{"字" * 21_000}"}}')
        await answer(socket, "pong")
        await socket.send_to(**message)
        assert await code_of(socket) == 1009


@live
async def test_it_cuts_a_viewer_that_acknowledges_and_falls_behind(people, one, two):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runs.live.outbox.LARGEST_UNACKED_FRAMES", 3)
        socket, _ = await greet(one, people["viewer"])
        await socket.send_json_to({"kind": "ack", "seq": 0})
        await socket.send_json_to({"kind": "ping"})
        await answer(socket, "pong")
        for step in range(1, 8):
            await sync_to_async(append)(one, step)
        assert await code_of(socket) == 4408


@live
async def test_it_follows_from_the_database_without_a_layer_and_says_so(people, one, two):
    nowhere = {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": ["unix:///nowhere/redis.sock"]},
    }
    with override_settings(CHANNEL_LAYERS={"default": nowhere}), TestCase().assertLogs("runs", "WARNING") as said:
        channel_layers.backends.clear()
        socket, hello = await greet(one, people["viewer"])
        assert hello["link"] == "database"
        for step in (1, 2, 3):
            # The hub reads it in its check of each second, between which it tries the layer four times.
            await sync_to_async(append)(one, step)
            assert (await numbered(socket))["seq"] == step
        await socket.disconnect()
    (away,) = said.output
    assert "the channel layer is unavailable" in away and "Traceback" not in away


@live
async def test_it_says_that_announcements_are_late_and_when_they_come_in_time_again(people, one, two):
    socket, hello = await greet(one, people["viewer"])
    assert hello["link"] == "live"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runs.recording.announcer.send", lambda group, message: None)
        await sync_to_async(append)(one, 1)
        assert (await numbered(socket))["seq"] == 1
        assert (await answer(socket, "link"))["link"] == "late"
    await sync_to_async(append)(one, 2)
    assert (await numbered(socket))["seq"] == 2
    assert (await answer(socket, "link"))["link"] == "live"
    await socket.disconnect()


@live
async def test_a_viewer_of_a_run_that_nobody_watched_gets_its_events_at_once(people, one, two):
    joined: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        # The database is not polled meanwhile.
        patch.setattr(hub_module, "POLL_INTERVAL_S", 3600.0)
        patch.setattr(feed, "announce_viewer", joined.append)
        patch.setattr(feed, "watched", feed.Watched())
        feed.watched.replace([])
        socket, _ = await greet(one, people["viewer"])
        assert joined == [one.pk]
        # Stored before this process has learned of the viewer, and after it.
        await sync_to_async(append)(one, 1)
        feed.watched.join(one.pk)
        assert (await numbered(socket))["seq"] == 1
        await sync_to_async(append)(one, 2)
        assert (await numbered(socket))["seq"] == 2
        await socket.disconnect()


@live
async def test_it_tells_when_no_heartbeat_comes_and_when_it_comes_again(people, one, two):
    with pytest.MonkeyPatch.context() as patch:
        for module in (hub_module, room_module):
            patch.setattr(module, "POLL_INTERVAL_S", 0.2)
        # The clock of the run's host may be an hour behind, which alone is no silence.
        await Run.objects.filter(pk=one.pk).aupdate(heartbeat_at=timezone.now() - timedelta(hours=1))
        socket, hello = await greet(one, people["viewer"])
        assert hello["life"] == "alive"
        patch.setattr(liveness, "UNREACHABLE_AFTER_S", 0.1)
        assert (await answer(socket, "life"))["life"] == "unreachable"
        patch.setattr(liveness, "SILENT_AFTER_S", 0.1)
        assert (await answer(socket, "life"))["life"] == "silent"
        await Run.objects.filter(pk=one.pk).aupdate(heartbeat=1)
        assert (await answer(socket, "life"))["life"] == "alive"
        await socket.disconnect()


def test_it_comes_back_to_the_layer_when_the_server_returns(people, layer, layer_server):
    """A server that is killed and returns closes no socket; events flow through the layer again."""

    async def check() -> None:
        run = await Run.objects.afirst()
        assert run is not None
        socket, _ = await greet(run, people["viewer"])
        hub = hub_module.current_hub()
        await sync_to_async(append)(run, 1)
        assert (await numbered(socket))["seq"] == 1
        layer_server.stop()
        assert (await answer(socket, "link"))["link"] == "database"
        await sync_to_async(append)(run, 2)
        assert (await numbered(socket))["seq"] == 2
        layer_server.start()
        assert (await answer(socket, "link"))["link"] == "live"
        assert hub.has_layer
        await sync_to_async(append)(run, 3)
        assert (await numbered(socket))["seq"] == 3
        await socket.disconnect()

    async_to_sync(check)()
