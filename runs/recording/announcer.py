"""Sends messages to the channel layer from synchronous code, on one thread with one event loop.

A loop and connection per message (`async_to_sync`) would cost more than the message, and a hanging Redis must not block
the caller. Messages that cannot be sent are dropped: the database has their content.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from channels.layers import channel_layers, get_channel_layer
from django.conf import settings

logger = logging.getLogger(__name__)

# If more messages of a run wait than this, or one waits longer than STALE_S, only the newest is announced. The portal
# processes of the viewers read the others from the database, which is faster.
LARGEST_BACKLOG = 1000
STALE_S = 1.0
# With a distant layer, a message does not wait for the arrival of the one before it.
MOST_IN_FLIGHT = 16
# A layer that takes longer is distant; a near one needs one connection.
FAR_S = 0.02
SEND_TIMEOUT_S = 3.0
RETRY_PAUSE_S = 0.5
# Attempts to listen to a layer that is away become as rare as this.
LONGEST_RETRY_PAUSE_S = 4.0
CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Message:
    group: str
    content: dict[str, Any]
    # By `time.monotonic`.
    came_at: float

    @property
    def subject(self) -> tuple[str, Any]:
        return self.group, self.content.get("type")


class Lane:
    """Sends one message at a time. The first lane uses the channel layer of this process, the others their own."""

    def __init__(self, number: int) -> None:
        self.sending: asyncio.Task[None] | None = None
        self._number = number
        self._own: Any = None
        self._configured: Any = None

    @property
    def is_busy(self) -> bool:
        return self.sending is not None

    def layer(self) -> Any:
        if self._number == 0:
            return get_channel_layer()
        if self._own is None or self._configured is not settings.CHANNEL_LAYERS:
            self._own, self._configured = channel_layers.make_backend("default"), settings.CHANNEL_LAYERS
        return self._own

    async def close(self) -> None:
        """Drop the connection of a lane that failed."""
        own, self._own = self._own, None
        if own is not None:
            with suppress(Exception):  # it is dropped in any case
                await asyncio.wait_for(own.flush(), SEND_TIMEOUT_S)


class LayerState:
    """Whether the channel layer serves this process. Logs the first failure and the recovery, whichever part of the
    process notices them. Safe to use from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._is_away = False

    def failed(self, part: str, why: str) -> None:
        with self._lock:
            self._failing.add(part)
            was_away, self._is_away = self._is_away, True
        if not was_away:
            logger.warning(
                "the channel layer is unavailable (%s): check that Redis runs. Until it is available, viewers get all "
                "events from the database",
                why,
            )

    def works(self, part: str) -> None:
        """Note a success. The layer is back once it works for every part for which it failed."""
        with self._lock:
            self._failing.discard(part)
            was_away, self._is_away = self._is_away, bool(self._failing)
            is_back = was_away and not self._failing
        if is_back:
            logger.warning("the channel layer is available again")

    def leave(self, part: str) -> None:
        """Note that a part no longer uses the layer."""
        with self._lock:
            self._failing.discard(part)


layer_state = LayerState()
# The name under which an announcer notes failures.
PART = "announcer"


class Listener:
    """Receives the messages to a group by the channel layer of this process."""

    def __init__(self, group: str, heard: Callable[[dict[str, Any]], None]) -> None:
        self._group, self._heard = group, heard
        # The name under which it notes failures, which is also in the name of its channel.
        self.part = f"listener{uuid.uuid4().hex}."
        self.pause_s = RETRY_PAUSE_S

    async def hear(self) -> None:
        """Pass on messages until the layer fails."""
        layer: Any = None
        channel = ""
        try:
            layer = get_channel_layer()
            channel = await layer.new_channel(self.part)
            await layer.group_add(self._group, channel)
            layer_state.works(self.part)
            self.pause_s = RETRY_PAUSE_S
            while True:
                self._pass_on(await layer.receive(channel))
        except Exception as error:  # any exception: messages may be lost
            layer_state.failed(self.part, str(error) or type(error).__name__)
            self.pause_s = min(2 * self.pause_s, LONGEST_RETRY_PAUSE_S)
        finally:
            if channel:
                with suppress(Exception):  # it is dropped in any case
                    await asyncio.wait_for(layer.group_discard(self._group, channel), SEND_TIMEOUT_S)
            self._drop_channels(layer)

    def _pass_on(self, message: dict[str, Any]) -> None:
        try:
            self._heard(message)
        except Exception:  # a fault of ours must not end the reception of later messages
            logger.exception("a message to %s could not be handled", self._group)

    def _drop_channels(self, layer: Any) -> None:
        """Remove the queue that channels_redis keeps for each channel, even for one that it failed to subscribe to."""
        channels = getattr(layer, "channels", {})
        for name in [name for name in channels if self.part in name]:
            del channels[name]


class Announcer:
    """One daemon thread, one event loop, one bounded backlog, and lanes that send several messages at the same time."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._backlog: deque[Message] = deque()
        self._lanes = [Lane(number) for number in range(MOST_IN_FLIGHT)]
        self._came, self._freed, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._away = False
        # Whether the layer is distant: a send took longer than FAR_S, and none was faster since.
        self._is_far = False
        # The number of messages that were not sent: viewers get these events from the database.
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def send(self, group: str, message: dict[str, Any]) -> None:
        """Queue `message` for `group` and return at once."""
        self._loop.call_soon_threadsafe(self._put, group, message)

    def listen(self, group: str, heard: Callable[[dict[str, Any]], None]) -> Future[None]:
        """Call `heard` (on the announcer's thread) for each message to `group`, until the answer is cancelled."""
        return asyncio.run_coroutine_threadsafe(self._listen(group, heard), self._loop)

    def flush(self, timeout_s: float) -> None:
        """Wait until all messages queued so far are sent or dropped, at most `timeout_s`."""
        future = asyncio.run_coroutine_threadsafe(self._wait_until_idle(), self._loop)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()

    def close(self) -> None:
        """End the thread; waiting messages are dropped.

        If the interpreter ends a thread by force while it packs a message in C++, the process aborts.
        """
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.create_task(self._send_forever())
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _wait_until_idle(self) -> None:
        await self._idle.wait()

    def _put(self, group: str, message: dict[str, Any]) -> None:
        now = time.monotonic()
        self._backlog.append(Message(group, message, now))
        if len(self._backlog) > LARGEST_BACKLOG or now - self._backlog[0].came_at > STALE_S:
            self._drop_stale()
        self._idle.clear()
        self._came.set()

    def _drop_stale(self) -> None:
        """Keep only the newest message of each kind to a group."""
        newest = {message.subject: message for message in self._backlog}
        kept = [message for message in self._backlog if newest[message.subject] is message][-LARGEST_BACKLOG:]
        self.dropped += len(self._backlog) - len(kept)
        self._backlog = deque(kept)

    async def _send_forever(self) -> None:
        while True:
            await self._came.wait()
            lane = await self._free_lane()
            lane.sending = asyncio.create_task(self._send_by(lane, self._backlog.popleft()))
            if not self._backlog:
                self._came.clear()

    async def _free_lane(self) -> Lane:
        """Return the first lane, or another one if the layer is available but distant."""
        while self._lanes[0].is_busy:
            if self._is_far and not self._away:
                free = next((lane for lane in self._lanes if not lane.is_busy), None)
                if free is not None:
                    return free
            self._freed.clear()
            try:
                await asyncio.wait_for(self._freed.wait(), FAR_S)
            except TimeoutError:
                self._is_far = True
        return self._lanes[0]

    async def _send_by(self, lane: Lane, message: Message) -> None:
        began_at = time.monotonic()
        try:
            await asyncio.wait_for(lane.layer().group_send(message.group, message.content), SEND_TIMEOUT_S)
            layer_state.works(PART)
            self._away = False
            if time.monotonic() - began_at < FAR_S:
                self._is_far = False
        except Exception as error:  # any exception: messages may be lost
            layer_state.failed(PART, str(error) or f"no answer within {SEND_TIMEOUT_S:g} s")
            self._away = True
            self.dropped += 1
            await lane.close()
            await asyncio.sleep(RETRY_PAUSE_S)
        finally:
            lane.sending = None
            self._freed.set()
            if not self._backlog and not any(other.is_busy for other in self._lanes):
                self._idle.set()

    async def _listen(self, group: str, heard: Callable[[dict[str, Any]], None]) -> None:
        listener = Listener(group, heard)
        try:
            while True:
                await listener.hear()
                # The database is looked at each second anyway.
                await asyncio.sleep(listener.pause_s)
        finally:
            layer_state.leave(listener.part)


_announcer: Announcer | None = None
_owner_pid = 0
_lock = threading.Lock()


def current() -> Announcer:
    """Return this process's announcer; a forked child gets its own."""
    global _announcer, _owner_pid
    with _lock:
        if _announcer is None or _owner_pid != os.getpid():
            if _announcer is None:
                atexit.register(_close)
            _announcer, _owner_pid = Announcer(), os.getpid()
        return _announcer


def _close() -> None:
    """End the announcer of this process at exit; a forked child that sent nothing has none."""
    if _announcer is not None and _owner_pid == os.getpid():
        _announcer.close()


def send(group: str, message: dict[str, Any]) -> None:
    """Queue `message` for `group` on this process's announcer."""
    current().send(group, message)
