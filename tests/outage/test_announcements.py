"""Announcements over a channel layer that is far away, or blocks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from channels_redis.pubsub import RedisPubSubChannelLayer

from runs.recording import announcer
from tests.support.stack import wait_for


class HeldUp:
    """A layer that delivers nothing until the test releases it."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.arrived: list[tuple[str, int]] = []
        self.is_open = threading.Event()

    async def group_send(self, group: str, message: dict[str, int]) -> None:
        sent = (group, message.get("seq", 0))
        self.begun.append(sent)
        while not self.is_open.is_set():
            await asyncio.sleep(0.005)
        self.arrived.append(sent)

    async def flush(self) -> None: ...


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> HeldUp:
    layer = HeldUp()
    monkeypatch.setattr(announcer, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(announcer.channel_layers, "make_backend", lambda name: layer)
    monkeypatch.setattr(announcer, "SEND_TIMEOUT_S", 60.0)
    return layer


@pytest.fixture
def sender(layer: HeldUp) -> Iterator[announcer.Announcer]:
    sender = announcer.Announcer()
    yield sender
    layer.is_open.set()
    sender.close()


def announce(sender: announcer.Announcer, group: str, count: int) -> None:
    for seq in range(1, count + 1):
        sender.send(group, {"type": "run.event", "seq": seq})


def test_several_announcements_travel_at_once_in_order(layer: HeldUp, sender: announcer.Announcer) -> None:
    announce(sender, "run.1", 40)
    wait_for(lambda: len(layer.begun) == announcer.MOST_IN_FLIGHT, "announcements under way")
    layer.is_open.set()
    sender.flush(60)
    assert layer.begun == [("run.1", seq) for seq in range(1, 41)]
    assert len(layer.arrived) == 40 and sender.dropped == 0


def test_of_a_backlog_that_is_stale_the_newest_of_each_run_is_announced(
    layer: HeldUp, sender: announcer.Announcer, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(sender, "run.1", announcer.MOST_IN_FLIGHT)
    wait_for(lambda: len(layer.begun) == announcer.MOST_IN_FLIGHT, "announcements under way")
    monkeypatch.setattr(announcer, "STALE_S", 0.0)
    announce(sender, "run.1", 100)
    announce(sender, "run.2", 50)
    sender.send("run.1", {"type": "run.heartbeat"})
    layer.is_open.set()
    sender.flush(60)
    rest = layer.begun[announcer.MOST_IN_FLIGHT :]
    assert rest == [("run.1", 100), ("run.2", 50), ("run.1", 0)]
    assert sender.dropped == 148


def test_further_lanes_are_taken_at_once_while_the_layer_is_far(
    layer: HeldUp, sender: announcer.Announcer, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(sender, "run.1", 2)
    wait_for(lambda: len(layer.begun) == 2, "a send that takes long")
    # From now on, nobody may wait to find out again.
    monkeypatch.setattr(announcer, "FAR_S", 10_000.0)
    announce(sender, "run.2", announcer.MOST_IN_FLIGHT - 2)
    wait_for(lambda: len(layer.begun) == announcer.MOST_IN_FLIGHT, "announcements under way")
    # A send is fast now: one lane is enough.
    layer.is_open.set()
    sender.flush(60)
    layer.is_open.clear()
    announce(sender, "run.3", 2)
    wait_for(lambda: len(layer.begun) == announcer.MOST_IN_FLIGHT + 1, "the next announcement")
    layer.is_open.set()
    sender.flush(60)
    assert len(layer.arrived) == announcer.MOST_IN_FLIGHT + 2


def test_listening_to_a_layer_that_is_away_takes_no_memory_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = threading.Event()
    away.set()
    attempts = 0
    heard: list[dict[str, Any]] = []

    async def subscribe(shard: Any, channel: str) -> None:
        nonlocal attempts
        attempts += 1
        if away.is_set():
            raise ConnectionError("nobody is there")

    async def unsubscribe(shard: Any, channel: str) -> None: ...

    monkeypatch.setattr("channels_redis.pubsub.RedisSingleShardConnection.subscribe", subscribe)
    monkeypatch.setattr("channels_redis.pubsub.RedisSingleShardConnection.unsubscribe", unsubscribe)
    layer = RedisPubSubChannelLayer(hosts=["redis://localhost:1"])
    monkeypatch.setattr(announcer, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(announcer, "layer_state", announcer.LayerState())
    monkeypatch.setattr(announcer, "RETRY_PAUSE_S", 0.001)
    monkeypatch.setattr(announcer, "LONGEST_RETRY_PAUSE_S", 0.004)
    receiver = announcer.Announcer()

    def queues() -> list[asyncio.Queue[bytes]]:
        return [queue for known in layer._layers.values() for queue in known.channels.values()]

    def logged() -> list[str]:
        return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]

    listening = receiver.listen("owner.1", heard.append)
    wait_for(lambda: attempts > 10, "attempts to listen")
    assert len(queues()) <= 1
    away.clear()
    wait_for(lambda: len(logged()) == 2, "a layer that is back")
    assert "nobody is there" in logged()[0] and "available again" in logged()[1]
    (queue,) = queues()
    receiver._loop.call_soon_threadsafe(queue.put_nowait, layer.serialize({"type": "run.command"}))
    wait_for(lambda: heard == [{"type": "run.command"}], "a message")
    listening.cancel()
    wait_for(lambda: not queues(), "the end of listening")
    receiver.close()
