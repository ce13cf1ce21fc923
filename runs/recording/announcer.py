"""Carries messages to the channel layer from synchronous code, on one thread with one event loop.

A loop and connection for each message (`async_to_sync`) would cost more than the message; a frozen
Redis must not hold the caller. What cannot be sent is dropped: the database has it.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

# A layer that is away for longer than it takes to fill this gets the newest again once it is back.
LARGEST_BACKLOG = 1000
SEND_TIMEOUT_S = 3.0
RETRY_PAUSE_S = 0.5
CLOSE_TIMEOUT_S = 2.0


class Announcer:
    """One daemon thread, one event loop, one bounded queue of (group, message)."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(maxsize=LARGEST_BACKLOG)
        self._away = False
        # Messages that were not sent: viewers read from the database what they told of.
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)
        self._thread.start()

    def send(self, group: str, message: dict[str, Any]) -> None:
        """Queue `message` for `group` and return at once."""
        self._loop.call_soon_threadsafe(self._put, group, message)

    def listen(self, group: str, heard: Callable[[dict[str, Any]], None]) -> None:
        """Call `heard` (on the announcer's thread) for each message to `group`, for the life of the process."""
        asyncio.run_coroutine_threadsafe(self._listen(group, heard), self._loop)

    def flush(self, timeout_s: float) -> None:
        """Wait until what was queued so far is sent or dropped, at most `timeout_s`."""
        future = asyncio.run_coroutine_threadsafe(self._queue.join(), self._loop)
        try:
            future.result(timeout_s)
        except TimeoutError:
            future.cancel()

    def close(self) -> None:
        """End the thread; what still waits is dropped.

        A thread that the interpreter ends by force, while it packs a message in C++, aborts the process.
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

    def _put(self, group: str, message: dict[str, Any]) -> None:
        if self._queue.full():
            self._queue.get_nowait()
            self.dropped += 1
            self._queue.task_done()
        self._queue.put_nowait((group, message))

    async def _send_forever(self) -> None:
        while True:
            group, message = await self._queue.get()
            try:
                layer = get_channel_layer()
                await asyncio.wait_for(layer.group_send(group, message), SEND_TIMEOUT_S)
                if self._away:
                    logger.warning("the channel layer is back")
                self._away = False
            except Exception as error:  # whatever a layer raises, the message is expendable
                if not self._away:
                    logger.warning("the channel layer is away (%s); viewers follow from the database", error)
                self._away = True
                self.dropped += 1
                await asyncio.sleep(RETRY_PAUSE_S)
            finally:
                self._queue.task_done()

    async def _listen(self, group: str, heard: Callable[[dict[str, Any]], None]) -> None:
        while True:
            try:
                layer = get_channel_layer()
                channel = await layer.new_channel()
                await layer.group_add(group, channel)
                while True:
                    heard(await layer.receive(channel))
            except Exception:  # the database is looked at each second anyway; try the layer again
                await asyncio.sleep(RETRY_PAUSE_S)


_announcer: Announcer | None = None
_owner_pid = 0
_lock = threading.Lock()


def current() -> Announcer:
    """Return this process's announcer; a forked child gets one of its own."""
    global _announcer, _owner_pid
    with _lock:
        if _announcer is None or _owner_pid != os.getpid():
            if _announcer is None:
                atexit.register(_close)
            _announcer, _owner_pid = Announcer(), os.getpid()
        return _announcer


def _close() -> None:
    """End the announcer of this process at its exit; a forked child that sent nothing has none of its own."""
    if _announcer is not None and _owner_pid == os.getpid():
        _announcer.close()


def send(group: str, message: dict[str, Any]) -> None:
    """Queue `message` for `group` on this process's announcer."""
    current().send(group, message)
