"""Announcements over a channel layer that is far away, or blocks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

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
