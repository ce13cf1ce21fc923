"""A channel layer that hangs or fails: no viewer waits for it, and the log has one line for the whole process."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from runs.live import hub as hub_module
from runs.live.layer import inbox as inbox_module
from runs.live.layer import link as link_module
from runs.live.layer.inbox import Inbox
from runs.live.layer.link import LayerLink
from runs.models import Run
from runs.recording import announcer, feed
from tests.live.greeting.guests import gone
from tests.support.sockets import TIMEOUT_S, append, greet, live, numbered, people
from tests.support.stack import wait_for

__all__ = ["people"]
FOREVER_S = 10_000.0


class Hung:
    """A layer that never answers, like a frozen Redis."""

    async def new_channel(self, prefix: str) -> str:
        return await self._hang()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await self._hang()

    async def flush(self) -> None:
        await self._hang()

    async def _hang(self) -> Any:
        await asyncio.Event().wait()


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> announcer.LayerState:
    state = announcer.LayerState()
    monkeypatch.setattr(announcer, "layer_state", state)
    return state


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.levelno >= logging.WARNING and each.name.startswith("runs.")]


@pytest.mark.django_db(transaction=True)
def test_viewers_come_and_go_while_the_layer_hangs(
    people: Any, state: announcer.LayerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for an answer of the layer would wait forever."""
    monkeypatch.setattr(link_module, "CALL_TIMEOUT_S", FOREVER_S)
    monkeypatch.setattr(link_module, "PATIENCE_S", 0.05)

    async def check() -> None:
        one, two = [run async for run in Run.objects.order_by("pk")]
        for run in (one, two):
            viewer, hello = await greet(run, people["viewer"])
            assert hello["link"] == "database"
            await sync_to_async(append)(run, 1)
            assert (await numbered(viewer))["seq"] == 1
            await gone(viewer)

    monkeypatch.setattr(link_module.channel_layers, "make_backend", lambda name: Hung())
    async_to_sync(check)()


@pytest.mark.parametrize(("error", "lines_expected"), [(PermissionError("not yours"), 1), (ValueError("a bug"), 2)])
def test_a_layer_that_cannot_be_made_is_logged_once(
    error: Exception,
    lines_expected: int,
    state: announcer.LayerState,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = 0

    def fail(name: str) -> Any:
        nonlocal tried
        tried += 1
        raise error

    monkeypatch.setattr(link_module.channel_layers, "make_backend", fail)
    monkeypatch.setattr(link_module, "RETRY_S", 0.001)

    def heard(message: dict[str, Any]) -> None: ...

    async def check() -> None:
        layer = LayerLink((), heard, lambda: None)
        await layer.join("run.1")
        while tried < 5:
            await asyncio.sleep(0.001)
        layer.stop()
        await layer.closed()

    asyncio.run(check())
    found = lines(caplog)
    assert len(found) == lines_expected
    assert str(error) in found[0].getMessage() and "check that Redis runs" in found[0].getMessage()
    # A known kind of failure has no stack trace, a fault of ours has one.
    assert [each.exc_info is not None for each in found] == [False, True][:lines_expected]


class Counted:
    """A layer in memory that returns its echoes. `connected` are those that were not closed."""

    connected: ClassVar[set[Counted]] = set()
    made: ClassVar[int] = 0

    def __init__(self, name: str) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def new_channel(self, prefix: str) -> str:
        await asyncio.sleep(0)
        Counted.connected.add(self)
        Counted.made += 1
        return prefix

    async def group_add(self, group: str, channel: str) -> None:
        await asyncio.sleep(0)

    group_discard = group_add

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self._queue.put_nowait(message)

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self._queue.get()

    async def flush(self) -> None:
        await asyncio.sleep(0)
        Counted.connected.discard(self)


def test_who_leaves_leaves_no_connection_and_no_task_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module.channel_layers, "make_backend", Counted)
    monkeypatch.setattr(Counted, "connected", set())
    monkeypatch.setattr(Counted, "made", 0)

    def heard(message: dict[str, Any]) -> None: ...

    async def check() -> None:
        link, others = LayerLink(("access",), heard, lambda: None), asyncio.all_tasks()
        for visit in range(20):
            await link.join("run.1")
            assert link.has_layer and len(Counted.connected) == 1 and Counted.made == visit + 1
            # As the hub does with the last viewer, without a pause between the two.
            link.leave("run.1")
            link.stop()
            await link.closed()
            while asyncio.all_tasks() != others:
                await asyncio.sleep(0)
            assert not Counted.connected

    asyncio.run(asyncio.wait_for(check(), TIMEOUT_S))


def test_the_process_logs_one_failure_and_one_recovery(caplog: pytest.LogCaptureFixture) -> None:
    state = announcer.LayerState()
    for _ in range(3):
        state.failed("hub", "no echo")
        state.failed("announcer", "no answer")
    state.works("announcer")
    # The hub gets no echoes yet.
    assert len(lines(caplog)) == 1
    state.works("hub")
    state.works("hub")
    away, back = lines(caplog)
    assert "unavailable (no echo)" in away.getMessage() and "available again" in back.getMessage()


def test_a_hub_without_viewers_does_not_delay_the_recovery(caplog: pytest.LogCaptureFixture) -> None:
    state = announcer.LayerState()
    state.failed("hub", "no echo")
    state.leave("hub")
    assert len(lines(caplog)) == 1
    state.failed("announcer", "no answer")
    assert len(lines(caplog)) == 1
    state.works("announcer")
    assert len(lines(caplog)) == 2


def test_an_announcer_notes_its_failure_for_the_process(
    state: announcer.LayerState, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcer, "SEND_TIMEOUT_S", 0.05)
    monkeypatch.setattr(announcer, "get_channel_layer", Hung)
    state.failed("hub", "no echo")
    sender = announcer.Announcer()
    sender.send("run.1", {"type": "run.event"})
    wait_for(lambda: sender.dropped, "a message that is not sent")
    sender.close()
    assert len(lines(caplog)) == 1


@live
async def test_echoes_and_heartbeats_do_not_wait_for_the_database(people, one, two):
    viewer, _ = await greet(one, people["viewer"])
    hub = hub_module.current_hub()
    (room,) = hub.watched
    # Whoever reads events of the run from a database that hangs has this lock.
    async with room.lock:
        await sync_to_async(append)(one, 1)
        await sync_to_async(feed.announce_heartbeat)(one.pk, room.attempt)
        async with asyncio.timeout(TIMEOUT_S):
            while room.heartbeat_received_at < 0:
                await asyncio.sleep(0.01)
            echo_at = hub._link._echo_at
            while hub._link._echo_at == echo_at:
                await asyncio.sleep(0.01)
    assert (await numbered(viewer))["seq"] == 1
    await viewer.disconnect()


def test_an_inbox_is_bounded_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "LARGEST_INBOX", 3)
    handled: list[int] = []

    async def check() -> None:
        is_open = asyncio.Event()

        async def handle(message: dict[str, Any]) -> None:
            await is_open.wait()
            handled.append(message["seq"])

        inbox = Inbox(handle)
        inbox.put({"seq": 1})
        await asyncio.sleep(0)
        for seq in range(2, 10):
            inbox.put({"seq": seq})
        is_open.set()
        async with asyncio.timeout(TIMEOUT_S):
            while len(handled) < 4:
                await asyncio.sleep(0)
        is_open.clear()
        inbox.put({"seq": 10})
        await asyncio.sleep(0)
        inbox.put({"seq": 11})
        inbox.stop()
        is_open.set()
        inbox.put({"seq": 12})
        async with asyncio.timeout(TIMEOUT_S):
            while len(handled) < 5:
                await asyncio.sleep(0)

    asyncio.run(check())
    assert handled == [1, 7, 8, 9, 12]


@live
async def test_the_last_viewer_leaves_even_if_its_handler_is_cancelled(people, one, two):
    hub = hub_module.current_hub()
    room, outbox = await hub.join(one.pk)
    async with hub._joining:
        leaving = asyncio.create_task(hub.leave(room, outbox))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
    async with asyncio.timeout(TIMEOUT_S):
        while hub.watched:
            await asyncio.sleep(0.01)
    await hub._link.closed()
