"""The WebSocket of one run: authorise, subscribe, forward; parse what the viewer asks and hand it on.

The protocol stands in `docs/protocol.md`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any

import msgspec
from autobahn.exception import Disconnected
from channels.consumer import get_handler_name
from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from runs.access.grants import Grant, check_grants
from runs.access.guest_view import nameless_frame, names_somebody
from runs.access.roles import Viewer
from runs.commands.record import NotAllowed, record_as
from runs.live.database_reads import reading
from runs.live.handshake import TicketDelayed, query_of
from runs.live.hello import since_of
from runs.live.hub import Hub, Room, current_hub
from runs.live.outbox import Outbox
from runs.models import Command, Run
from runs.protocol.commands import InvalidCommand, Request, parse_command
from runs.protocol.events import PROTOCOL, Error, Message, Pong, Resync, encode_message

logger = logging.getLogger(__name__)

LARGEST_MESSAGE_CHARACTERS = 64 * 1024
MALFORMED_LIMIT = 10
LARGEST_ECHOED_ID = 100
SOCKETS_A_USER = 100
# A share link may be shown to a lecture hall.
SOCKETS_A_SHARE_LINK = 500
# A viewer that acknowledges and is this far behind is cut: the server has no other sign of its back-pressure.
LARGEST_UNACKED_FRAMES = 4_000

FAILED = 1011
TRY_AGAIN = 1013
TOO_SLOW = 4408

# What a server raises where the transport is closed: as ASGI says, and as plain Daphne does (`runserver`).
TRANSPORT_CLOSED = (OSError, Disconnected)

# Open sockets by user, and by share link.
_sockets: Counter[tuple[str, int]] = Counter()


class ViewerLeft(Exception):
    """The transport is closed: the socket's disconnect message follows, or came already."""


class RunConsumer(AsyncWebsocketConsumer):
    """Shows one run to one viewer and passes on what they ask."""

    # Events come through the process's hub: this consumer needs no channel of its own.
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
        self.last_seq = 0
        self.acked_seq: int | None = None
        self.malformed = 0
        self.counted: tuple[str, int] | None = None

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Keep the socket alive, or close it tidily, whatever a handler raises."""
        try:
            # Not by the library's `dispatch`: it goes to a thread for each message, to close connections that no
            # consumer keeps there.
            await getattr(self, get_handler_name(message))(message)
        except StopConsumer:
            await self._leave()
            raise
        except ViewerLeft as left:
            logger.debug("run %s: %s", self.run_id, left)
        except Exception:
            logger.exception("run %s: a socket's message could not be handled", self.run_id)
            if message["type"] == "websocket.connect":
                # Half greeted it would show nothing for ever: let it come again.
                await self._fail()
                return
            try:
                await self.send_message(Error(error="The server could not handle this; it has been logged."))
            except ViewerLeft as left:
                logger.debug("run %s: %s", self.run_id, left)
            except Exception:
                logger.exception("run %s: a socket could not be told of a failure", self.run_id)
                await self._fail()

    async def connect(self) -> None:
        self.run_id = int(self.scope["url_route"]["kwargs"]["run_id"])
        offered = self.scope.get("subprotocols", [])
        # Accept first: a browser shows a refused handshake as 1006, without the reason.
        await self.accept(PROTOCOL if PROTOCOL in offered else None)
        self.hub = current_hub()
        try:
            found = await self.hub.entrance.enter(self.scope, self.run_id)
        except TicketDelayed:
            await self._fail(TRY_AGAIN)
            return
        if isinstance(found, int):
            await self.close(found)
            return
        self.grant, self.viewer = found
        key, most = _place(self.grant, self.viewer)
        if _sockets[key] >= most:
            await self.close(4429)
            return
        _sockets[key] += 1
        self.counted = key
        try:
            self.room, self.outbox = await self.hub.join(self.run_id)
        except Run.DoesNotExist:
            await self.close(4404)
            return
        await self._greet()
        self.hub.guard.add(self, self.grant, self.viewer)
        self.writer = asyncio.create_task(self._write_forever(self.outbox))

    async def _greet(self) -> None:
        """Send the snapshot at seq K, then what is missing since the viewer's last seq."""
        assert self.room is not None and self.hub is not None and self.viewer is not None
        since = since_of(query_of(self.scope).get("since", []))
        greeting = await self.room.greeter.greet(since, is_guest=self.viewer.is_guest)
        snapshot, replays = greeting.snapshot, greeting.replays
        await self._transmit(snapshot.hello(self.viewer, replays=replays, life=self.room.life, link=self.hub.link))
        if since is not None and not replays:
            await self.send_message(Resync(seq=snapshot.seq))
        for frame in greeting.frames:
            await self._transmit(frame)
        self.last_seq = greeting.last_seq

    async def _send_event(self, frame: str) -> None:
        if self.viewer is not None and self.viewer.is_guest and names_somebody(frame):
            frame = await reading(nameless_frame)(frame)
        await self._transmit(frame)

    async def _transmit(self, frame: str) -> None:
        """Send a text frame. Raises `ViewerLeft` where the transport is closed."""
        try:
            await self.send(text_data=frame)
        except TRANSPORT_CLOSED as error:
            raise ViewerLeft(f"the viewer left: {error}") from error

    async def _fail(self, code: int = FAILED) -> None:
        """Close because of an error of ours, which has been logged: the viewer comes again with its last event."""
        self.viewer = None
        try:
            await self.close(code)
        except TRANSPORT_CLOSED as error:
            logger.debug("run %s: the viewer left before it could be told: %s", self.run_id, error)
        except Exception:
            # Plain Daphne (`runserver`) cannot send the standard's codes; this one leads a viewer to the same.
            await self.close(TOO_SLOW)

    async def _write_forever(self, outbox: Outbox) -> None:
        try:
            while True:
                frames = await outbox.take()
                for seq, frame in frames:
                    if seq and seq <= self.last_seq:
                        continue
                    await self._send_event(frame)
                    self.last_seq = seq or self.last_seq
                behind = self.acked_seq is not None and self.last_seq - self.acked_seq > LARGEST_UNACKED_FRAMES
                if outbox.overflowed or behind:
                    await self.close(TOO_SLOW)
                    return
        except ViewerLeft as left:
            logger.debug("run %s: %s", self.run_id, left)
        except Exception:
            logger.exception("run %s: event %s could not be sent", self.run_id, self.last_seq + 1)
            await self._fail()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle one message of the viewer; what cannot be used is answered with an error message."""
        if self.viewer is None:
            return
        payload: dict[str, Any] = {}
        try:
            payload = _parse(text_data)
            kind = payload.get("kind", "command" if "command" in payload else None)
            if kind == "command":
                await self._ask(payload)
            elif kind == "ack":
                self.acked_seq = _whole_number(payload, "seq")
            elif kind == "ping":
                await self._answer_ping(payload.get("echo"))
            else:
                raise InvalidCommand("Send a kind: command, ack or ping.", "kind")
        except InvalidCommand as error:
            asked = payload.get("id")
            command_id = asked if isinstance(asked, str) and len(asked) <= LARGEST_ECHOED_ID else ""
            await self.send_message(Error(error=str(error), field=error.field, command_id=command_id))
            self.malformed += 1
            if self.malformed >= MALFORMED_LIMIT:
                await self.close(4400)

    async def _answer_ping(self, echo: Any) -> None:
        assert self.room is not None
        await self.send_message(Pong(echo=echo, server_time=time.time(), seq=self.room.newest_seq))

    async def _ask(self, payload: dict[str, Any]) -> None:
        request = parse_command(payload)
        try:
            await database_sync_to_async(self._record)(request)
        except NotAllowed as error:
            await self.send_message(Error(error=str(error), field=error.field, command_id=str(request.id)))

    def _record(self, request: Request) -> Command:
        """Ask anew what this viewer may do: a role may have changed since the handshake."""
        assert self.grant is not None
        viewer = check_grants([self.grant])[self.grant]
        if isinstance(viewer, int):
            raise NotAllowed("You may no longer see this run.")
        return record_as(self.run_id, request, viewer)

    async def end(self, code: int) -> None:
        """Close because the right to watch is gone or has changed; what is still asked is not heard."""
        self.viewer = None
        if self.writer is not None:
            self.writer.cancel()
        await self.close(code)

    async def send_message(self, message: Message) -> None:
        await self._transmit(encode_message(message))

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        await self._leave()
        raise StopConsumer

    async def _leave(self) -> None:
        if self.writer is not None:
            self.writer.cancel()
            self.writer = None
        if self.counted is not None:
            _sockets[self.counted] -= 1
            self.counted = None
        if self.hub is not None:
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


def _place(grant: Grant, viewer: Viewer) -> tuple[tuple[str, int], int]:
    """Return under what a socket is counted, and how many there may be."""
    if viewer.is_guest and grant.token_id is not None:
        return ("share link", grant.token_id), SOCKETS_A_SHARE_LINK
    return ("user", grant.user_id), SOCKETS_A_USER


def _parse(text: str | None) -> dict[str, Any]:
    if text is None:
        raise InvalidCommand("Send text frames of JSON.", "kind")
    if len(text) > LARGEST_MESSAGE_CHARACTERS:
        raise InvalidCommand(f"A message may have {LARGEST_MESSAGE_CHARACTERS} characters.", "kind")
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
