"""The connection of a hub to the channel layer, which may fail, hang or lose messages at any time.

One task connects, sends echoes, and joins and leaves groups, one after the other. Nobody waits for a layer that is
unavailable: viewers get their events from the database until the task has joined their groups.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from channels.layers import channel_layers

from runs.recording import announcer

logger = logging.getLogger(__name__)

ECHO_INTERVAL_S = 1.0
# While the layer is unavailable, reconnecting is tried more often.
RETRY_S = 0.25
# A layer whose echo is older than this counts as unavailable; pages then show that events come from the database.
ECHO_TIMEOUT_S = 2.5
CALL_TIMEOUT_S = 2.0
FIRST_ECHO_TIMEOUT_S = 0.5
# A near layer answers within milliseconds. A page waits no longer than this for its first event.
PATIENCE_S = 1.0
# The name under which failures are noted for the whole process.
PART = "hub"

# Must not wait: the next message may be an echo.
Heard = Callable[[dict[str, Any]], None]


class LayerLink:
    """Joins the groups of runs that are wanted, and passes their messages to `heard`.

    `has_layer` is true while the layer returns its echoes; `changed` is called whenever that was noted.
    """

    def __init__(self, groups: Sequence[str], heard: Heard, changed: Callable[[], None]) -> None:
        self.has_layer = False
        self._groups, self._heard, self._changed = groups, heard, changed
        self._wanted: set[str] = set()
        self._joined: set[str] = set()
        self._layer: Any = None
        self._channel = ""
        self._hearing: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._echo_group = f"hub.{uuid.uuid4().hex}"
        self._echo_at = self._linked_at = 0.0
        self._is_missing = False
        self._fault = ""
        self._echoed, self._wake, self._settled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def want(self, group: str) -> None:
        """Join a group, as soon as possible."""
        self._wanted.add(group)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        if group not in self._joined:
            self._settled.clear()
        self._wake.set()

    async def join(self, group: str) -> None:
        """Join a group, and wait for it, unless the layer is unavailable."""
        self.want(group)
        if not self._is_missing:
            await _wait(self._settled, PATIENCE_S)

    def leave(self, group: str) -> None:
        self._wanted.discard(group)
        self._wake.set()

    def stop(self) -> None:
        """Leave all groups and disconnect, in the background."""
        self._wanted.clear()
        if self._working is not None:
            self._working.cancel()
            self._working = None
        self.has_layer = self._is_missing = False
        announcer.layer_state.leave(PART)
        self._disconnect()

    async def closed(self) -> None:
        """Wait a while until old connections are closed. A layer that does not answer is left behind."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=PATIENCE_S)

    def _close(self, work: Coroutine[Any, Any, None]) -> None:
        closing = asyncio.create_task(work)
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _work(self) -> None:
        own = asyncio.current_task()
        # A library may swallow the cancellation.
        while self._working is own:
            self._wake.clear()
            try:
                await self._stay_linked()
                self._fault = ""
            except Exception as error:  # events come from the database meanwhile
                self._note_fault(error)
            if self._layer is None or self._joined == self._wanted:
                self._settled.set()
                if self._layer is None:
                    # It is not tried more often because more viewers come.
                    await asyncio.sleep(RETRY_S)
                else:
                    await _wait(self._wake, ECHO_INTERVAL_S if self.has_layer else RETRY_S)

    async def _stay_linked(self) -> None:
        """Connect if there is no layer, or if its echoes are missing; otherwise request the next echo. Then join and
        leave groups.
        """
        if self._layer is not None and time.monotonic() - max(self._echo_at, self._linked_at) > ECHO_TIMEOUT_S:
            self._note(False, "no echo from the channel layer")
            self._disconnect()
        if self._layer is None:
            await self._connect()
        else:
            await self._call("group_send", self._echo_group, {"type": "hub.echo"})
        for group in self._wanted - self._joined:
            if await self._call("group_add", group, self._channel):
                self._joined.add(group)
        for group in self._joined - self._wanted:
            await self._call("group_discard", group, self._channel)
            self._joined.discard(group)

    async def _connect(self) -> None:
        """Create a separate instance of the channel layer, so that replacing a dead one affects nothing else."""
        layer = channel_layers.make_backend("default")
        wanted = set(self._wanted)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                channel = await layer.new_channel("hub.")
                for group in (self._echo_group, *self._groups, *wanted):
                    await layer.group_add(group, channel)
        except asyncio.CancelledError:
            self._close(_flush(layer))
            raise
        except Exception as error:  # any exception: events come from the database meanwhile
            self._note(False, str(error) or f"no answer within {CALL_TIMEOUT_S:g} s")
            self._close(_flush(layer))
            return
        if self._working is not asyncio.current_task():
            self._close(_flush(layer))
            return
        self._layer, self._channel, self._joined = layer, channel, wanted
        self._linked_at = time.monotonic()
        self._hearing = asyncio.create_task(self._hear_forever(layer, channel))
        self._hearing.add_done_callback(_look_at_outcome)
        self._echoed.clear()
        if await self._call("group_send", self._echo_group, {"type": "hub.echo"}):
            # The first viewer gets the state of the layer; an echo takes about a millisecond.
            await _wait(self._echoed, FIRST_ECHO_TIMEOUT_S)

    async def _call(self, name: str, *arguments: Any) -> bool:
        if self._layer is None:
            return False
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await getattr(self._layer, name)(*arguments)
        except Exception as error:  # the next pass reconnects
            self._note(False, str(error) or f"no answer within {CALL_TIMEOUT_S:g} s")
            self._disconnect()
            return False
        return True

    async def _hear_forever(self, layer: Any, channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            if message.get("type") == "hub.echo":
                self._echo_at = time.monotonic()
                self._echoed.set()
                self._note(True)
            else:
                self._heard(message)

    def _disconnect(self) -> None:
        """Use the layer no longer, and close it in the background, which nothing may interrupt: a layer that is not
        closed polls its connection for ever.
        """
        hearing, layer = self._hearing, self._layer
        self._hearing = self._layer = None
        self._joined = set()
        if layer is not None:
            self._close(_end(hearing, layer))

    def _note(self, has_layer: bool, why: str = "") -> None:
        self.has_layer, self._is_missing = has_layer, not has_layer
        if has_layer:
            announcer.layer_state.works(PART)
        else:
            announcer.layer_state.failed(PART, why)
            # Whoever waits for the layer no longer does.
            self._settled.set()
        self._changed()

    def _note_fault(self, error: Exception) -> None:
        """Note a layer that cannot be made, or log a fault of ours, once."""
        self._note(False, str(error) or type(error).__name__)
        if not isinstance(error, OSError) and self._fault != repr(error):
            self._fault = repr(error)
            logger.exception("the connection to the channel layer failed")


async def _wait(event: asyncio.Event, longest_s: float) -> None:
    """Wait for an event, for a limited time.

    `asyncio.wait_for` may swallow a cancellation that comes together with the event.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest_s):
            await event.wait()


async def _end(hearing: asyncio.Task[None] | None, layer: Any) -> None:
    if hearing is None:
        await _flush(layer)
        return
    hearing.cancel()
    await asyncio.wait([hearing], timeout=CALL_TIMEOUT_S)
    await _flush(layer)
    if not hearing.done():
        # At its end it unsubscribes, for which the layer connects again.
        await asyncio.wait([hearing])
        await _flush(layer)


async def _flush(layer: Any) -> None:
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            await layer.flush()
    except Exception as error:  # the connection is dropped in any case
        logger.debug("a channel layer was not closed cleanly: %s", error)


def _look_at_outcome(hearing: asyncio.Task[None]) -> None:
    """Retrieve the exception of a layer that failed while it was listened to: its echoes are missing then."""
    if not hearing.cancelled():
        hearing.exception()
