"""The WebSocket of one run: authorises, subscribes and forwards events; parses the viewer's messages and executes them.

The protocol is described in `docs/protocol.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import msgspec
from autobahn.exception import Disconnected
from channels.consumer import get_handler_name
from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import Error as DatabaseError

from runs.access.grants import Grant, check_grants
from runs.access.roles import Viewer, operators_only
from runs.commands.record import NotAllowed, record_as
from runs.live.greeting import Greeting
from runs.live.handshake import TicketDelayed, query_of
from runs.live.hello import held_of
from runs.live.hub import Hub, current_hub
from runs.live.outbox import Outbox
from runs.live.presence.audience import Watcher, watcher_of
from runs.live.presence.places import ALL, place_of
from runs.live.room import Room
from runs.live.socket_limits import answers
from runs.metrics.portal_tally import tally
from runs.models import Command, Run
from runs.outage.answers import noted_outage, sentence
from runs.protocol.commands import InvalidCommand, Request, parse_command
from runs.protocol.messages import PROTOCOL, TOO_MANY, TOO_SLOW, Error, Message, Pong, Resync, Watchers, encode_message
from runs.protocol.sight import parse_sight
from runs.protocol.wire_format import EXTENSION, LARGEST_REQUEST_BYTES, Wire

logger = logging.getLogger(__name__)

MALFORMED_LIMIT = 10
LARGEST_ECHOED_ID = 100

TOO_LARGE, MALFORMED = 1009, 4400
FAILED = 1011
TRY_AGAIN = 1013

# The exceptions of a server with a closed transport: by ASGI, and by plain Daphne (`runserver`).
TRANSPORT_CLOSED = (OSError, Disconnected)


class ViewerLeft(Exception):
    """The transport is closed. The socket's disconnect message follows, or arrived already."""


class RunConsumer(AsyncWebsocketConsumer):
    """Shows one run to one viewer, and executes the viewer's requests."""

    # The process's hub delivers the events, so this consumer needs no channel.
    channel_layer_alias = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.hub: Hub | None = None
        self.room: Room | None = None
        self.outbox: Outbox | None = None
        self.writer: asyncio.Task[None] | None = None
        self.grant: Grant | None = None
        self.viewer: Viewer | None = None
        self.run_id = 0
        self.malformed = 0
        self.places: list[str] = []
        self.watcher: Watcher | None = None
        # Whether its end was counted as a close.
        self.is_counted = False
        self.answers = answers()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Handle the viewer's messages one after the other.

        There is no channel to listen to, so a viewer needs one task instead of the two of Channels' method.
        """
        self.scope, self.channel_layer, self.base_send = scope, None, send
        with contextlib.suppress(StopConsumer):
            while True:
                await self.dispatch(await receive())

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Keep the socket open, or close it properly, whatever a handler raises."""
        try:
            # Not Channels' `dispatch`, which uses a thread for each message to close database connections that no
            # consumer has.
            await getattr(self, get_handler_name(message))(message)
        except (StopConsumer, asyncio.CancelledError):
            # A cancelled handler waited for the database until some seconds after its viewer left.
            await self._leave()
            raise
        except ViewerLeft as left:
            logger.debug("run %s: %s", self.run_id, left)
        except Exception as error:
            outage = noted_outage(error)
            if outage is None:
                logger.exception("run %s: a socket's message could not be handled", self.run_id)
            if message["type"] == "websocket.connect":
                # An incomplete greeting would leave the page empty, so let the viewer reconnect.
                await self._fail(TRY_AGAIN if outage else FAILED)
                return
            text = sentence(outage) if outage else "The server failed to handle this message. The error was logged."
            try:
                await self.send_message(Error(error=text))
            except ViewerLeft as left:
                logger.debug("run %s: %s", self.run_id, left)
            except Exception:
                logger.exception("run %s: a failure could not be reported to a socket", self.run_id)
                await self._fail()

    async def connect(self) -> None:
        self.run_id = int(self.scope["url_route"]["kwargs"]["run_id"])
        offered = self.scope.get("subprotocols", [])
        # Accept first: a browser reports a refused handshake as 1006, without the reason.
        await self.accept(PROTOCOL if PROTOCOL in offered else None)
        self.hub = current_hub()
        self.hub.reporter.wake()
        shown = self.hub.entrance.credential_of(self.scope, self.run_id)
        if not self.hub.handshakes.let_in(shown.address, shown.holder) or not await self._take_place(ALL):
            await self.close(TOO_MANY)
            return
        try:
            found = await self.hub.entrance.enter(shown, self.run_id)
        except TicketDelayed:
            await self._fail(TRY_AGAIN)
            return
        if isinstance(found, int):
            await self.close(self.hub.handshakes.note_failure(shown.source, found))
            return
        if not await self._take_place(place_of(*found)):
            await self.close(TOO_MANY)
            return
        self.grant, self.viewer = found
        try:
            self.room, self.outbox = await self.hub.join(self.run_id)
        except Run.DoesNotExist:
            await self.close(4404)
            return
        self.watcher = watcher_of(*found)
        self.hub.exchange.audience.add(self.run_id, self.watcher)
        watchers = self.hub.exchange.audience.of(self.run_id)
        greeting = await self._greet(watchers)
        self.hub.guard.add(self, self.grant, self.viewer)
        wire, is_guest = self._wire(), self.viewer.is_guest
        self.outbox.open(
            greeting.begin_seq,
            wire,
            self._start_writing,
            is_guest=is_guest,
            first=greeting.frames,
            watchers=watchers,
        )

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the socket and count the code."""
        if not self.is_counted:
            self.is_counted = True
            tally.counts.note_close(1000 if code is None or code is True else int(code))
        await super().close(code, reason)

    async def _take_place(self, key: str) -> bool:
        assert self.hub is not None
        if not await self.hub.exchange.take_place(key):
            return False
        self.places.append(key)
        return True

    async def _greet(self, watchers: Watchers) -> Greeting:
        """Send the snapshot at seq K; the outbox sends the events since the viewer's last seq."""
        assert self.room is not None and self.viewer is not None
        held = held_of(query_of(self.scope))
        greeting = await self.room.greeter.greet(held, is_guest=self.viewer.is_guest)
        snapshot, replays = greeting.snapshot, greeting.replays
        if held is not None:
            tally.counts.replays += replays
            tally.counts.resyncs += not replays
        room = self.room
        hello = snapshot.hello(self.viewer, replays=replays, life=room.life, link=room.link, watchers=watchers)
        await self._transmit(hello)
        if held is not None and not replays:
            await self.send_message(Resync(seq=snapshot.seq))
        return greeting

    def _wire(self) -> Wire | None:
        """Return the connection itself, None if this server does not offer it: messages are then sent by `send`."""
        offered = self.scope.get("extensions", {}).get(EXTENSION)
        wire: Wire | None = offered() if offered is not None else None
        return wire

    async def _transmit(self, frame: str) -> None:
        """Send a text frame. Raises `ViewerLeft` if the transport is closed."""
        try:
            await self.send(text_data=frame)
        except TRANSPORT_CLOSED as error:
            raise ViewerLeft(f"the viewer left: {error}") from error

    async def _fail(self, code: int = FAILED) -> None:
        """Close because of an error of ours, which has been logged: the viewer reconnects with its last event."""
        await self._turn_away(code, TOO_SLOW)

    async def _turn_away(self, code: int, own_code: int) -> None:
        """Handle no more messages of the viewer, and close with a code of the standard.

        Plain Daphne (`runserver`) cannot send those; a viewer handles `own_code` in the same way.
        """
        self.viewer = None
        try:
            await self.close(code)
        except TRANSPORT_CLOSED as error:
            logger.debug("run %s: the viewer left before this was sent: %s", self.run_id, error)
        except Exception:
            await self.close(own_code)

    def _start_writing(self) -> None:
        if self.writer is None:
            self.writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        """Send the messages in the outbox at the viewer's speed; return when it is empty."""
        assert self.outbox is not None and self.viewer is not None
        outbox, guest = self.outbox, self.viewer.is_guest
        try:
            while not outbox.overflowed and (frame := outbox.take()):
                if guest:
                    frame = await frame.for_guests()
                if outbox.wire is None:
                    await self._transmit(frame.text)
                    continue
                await outbox.wire.drained()
                while not outbox.send(frame):
                    await outbox.wire.drained()
            if outbox.overflowed:
                outbox.close()
                await self.close(TOO_SLOW)
            elif outbox.has_failed:
                await self._fail()
        except ViewerLeft as left:
            outbox.close()
            logger.debug("run %s: %s", self.run_id, left)
        except TRANSPORT_CLOSED as error:
            outbox.close()
            logger.debug("run %s: the viewer left: %s", self.run_id, error)
        except Exception:
            outbox.close()
            logger.exception("run %s: an event up to %s could not be sent", self.run_id, outbox.last_seq)
            await self._fail()
        finally:
            self.writer = None

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle one message of the viewer; invalid messages are answered with an error message."""
        if self.viewer is None:
            return
        if _is_too_large(text_data or bytes_data or ""):
            self._stop_writing()
            await self._turn_away(TOO_LARGE, MALFORMED)
            return
        payload: dict[str, Any] = {}
        try:
            payload = _parse(text_data)
            kind = payload.get("kind", "command" if "command" in payload else None)
            if kind != "ack" and not self.answers.take():
                await self.end(TOO_MANY)
            elif kind == "command":
                await self._ask(payload)
            elif kind == "ack":
                acked_seq = _whole_number(payload, "seq")
                if self.outbox is not None:
                    self.outbox.acknowledge(acked_seq)
            elif kind == "ping":
                await self._answer_ping(payload.get("echo"))
            elif kind == "sight":
                if self.room is not None and self.outbox is not None:
                    self.room.look(self.outbox, parse_sight(payload))
            else:
                raise InvalidCommand("Send kind as one of command, ack, ping and sight.", "kind")
        except InvalidCommand as error:
            asked = payload.get("id")
            command_id = asked if isinstance(asked, str) and len(asked) <= LARGEST_ECHOED_ID else ""
            await self.send_message(Error(error=str(error), field=error.field, command_id=command_id))
            self.malformed += 1
            if self.malformed >= MALFORMED_LIMIT:
                await self.close(MALFORMED)

    async def _answer_ping(self, echo: Any) -> None:
        assert self.room is not None
        await self.send_message(Pong(echo=echo, server_time=time.time(), seq=self.room.newest_seq))

    async def _ask(self, payload: dict[str, Any]) -> None:
        assert self.viewer is not None
        request = parse_command(payload)
        try:
            # Needs no query: if a role changes, this socket ends within half a second.
            if not self.viewer.may_command:
                raise NotAllowed(operators_only())
            await database_sync_to_async(self._record)(request)
            if self.hub is not None and self.room is not None and not self.hub.has_layer:
                # The page sends its next command when it knows that this one is stored.
                await self.hub.read_now(self.room)
        except NotAllowed as error:
            await self.send_message(Error(error=str(error), field=error.field, command_id=str(request.id)))
        except DatabaseError as error:
            outage = noted_outage(error)
            if outage is None:
                raise
            await self.send_message(Error(error=sentence(outage), command_id=str(request.id), again=True))

    def _record(self, request: Request) -> Command:
        """Check again what this viewer may do, because a role may have changed since the handshake."""
        assert self.grant is not None
        viewer = check_grants([self.grant])[self.grant]
        if isinstance(viewer, int):
            raise NotAllowed("You no longer have access to this run.")
        return record_as(self.run_id, request, viewer)

    async def end(self, code: int) -> None:
        """Close because the right to watch has ended or changed; pending requests are dropped."""
        self.viewer = None
        self._stop_writing()
        await self.close(code)

    def _stop_writing(self) -> None:
        if self.outbox is not None:
            self.outbox.close()
        if self.writer is not None:
            self.writer.cancel()
            self.writer = None

    async def send_message(self, message: Message) -> None:
        await self._transmit(encode_message(message))

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        if not self.is_counted:
            self.is_counted = True
            tally.counts.note_close(message.get("code"))
        await self._leave()
        raise StopConsumer

    async def _leave(self) -> None:
        self._stop_writing()
        if self.hub is not None:
            while self.places:
                self.hub.exchange.places.give_back(self.places.pop())
            if self.watcher is not None:
                self.hub.exchange.audience.remove(self.run_id, self.watcher)
                self.watcher = None
            self.hub.guard.remove(self)
        if self.hub is not None and self.room is not None and self.outbox is not None:
            room, self.room = self.room, None
            await self.hub.leave(room, self.outbox)


class NoSuchRun(AsyncWebsocketConsumer):
    """Answers every other WebSocket address."""

    channel_layer_alias = ""

    async def connect(self) -> None:
        await self.accept()
        await self.close(4404)


def _is_too_large(message: str | bytes) -> bool:
    """Return whether a message exceeds the limit in bytes; each character of a text has at least one."""
    if len(message) > LARGEST_REQUEST_BYTES or isinstance(message, bytes):
        return len(message) > LARGEST_REQUEST_BYTES
    return len(message.encode(errors="surrogatepass")) > LARGEST_REQUEST_BYTES


def _parse(text: str | None) -> dict[str, Any]:
    if text is None:
        raise InvalidCommand("Send text frames of JSON.", "kind")
    try:
        payload = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise InvalidCommand("This is not JSON.", "kind") from None
    if not isinstance(payload, dict):
        raise InvalidCommand("Send a JSON object.", "kind")
    return payload


def _whole_number(payload: dict[str, Any], name: str) -> int:
    value = payload.get(name)
    if type(value) is not int or value < 0:
        raise InvalidCommand(f"Send {name} as a whole number.", name)
    return value
