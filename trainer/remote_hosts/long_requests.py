"""`/ws/hosts/` over plain HTTP, for training hosts whose proxy lets no WebSocket through.

A link of requests stands for one connection: a `HostSocket` serves it as it serves a WebSocket. Both directions are
streams of framed messages, and each request names its place in them, so a request that arrives again changes nothing.
The requests are described in `docs/protocol.md`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from runs.protocol.messages import TOO_SLOW
from steersman.wire.framing import LARGEST_MESSAGE_BYTES, LARGEST_PIECE_BYTES, Frames, TooLarge, framed
from trainer.remote_hosts.close_codes import HOST_CLOSE_CODES, RESTART
from trainer.remote_hosts.host_sockets import HostSocket, HostSockets

logger = logging.getLogger(__name__)

# How long a request waits for messages. Proxies end requests without an answer after 30 to 60 s.
WAIT_S = 20.0
# A host that sends no request for so long has left. Its next link takes its place.
IDLE_S = 30.0
# How long a link that has ended still answers with the reason.
KEPT_S = 60.0
# A host sends one report at a time: one with more messages waiting has to repeat its request.
MOST_WAITING_MESSAGES = 8
# Each report takes two requests, so a watched run is reported less often than over a WebSocket.
REPORT_AT_LEAST_S = 0.5
LINK = re.compile(r"[0-9a-f]{32}")
LARGEST_PLACE = 2**63
TOO_LARGE = 1009
LEFT = 1006
BINARY, JSON = b"application/octet-stream", b"application/json"

Answer = tuple[int, bytes, bytes]


class LongLink:
    """One link: what has arrived, what is to be sent, and the `HostSocket` that handles both."""

    def __init__(self, sockets: HostSockets, scope: dict[str, Any], credentials: bytes) -> None:
        self.credentials = credentials
        # How much of the stream of the host has arrived, in bytes.
        self.arrived = 0
        # Code and reason of the end.
        self.ended: tuple[int, str] | None = None
        self._frames = Frames()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        # What the host may not have yet, and its place in the stream.
        self._outgoing, self._place = bytearray(), 0
        self._news = asyncio.Event()
        self._socket = HostSocket(sockets, scope, self._inbox.get, self._send, REPORT_AT_LEAST_S)
        self._task = asyncio.create_task(self._serve())

    async def admit(self) -> None:
        """Wait until the host is admitted, or the link has ended because it is not."""
        admitted = asyncio.create_task(self._socket.admitted.wait())
        try:
            await asyncio.wait({admitted, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            admitted.cancel()

    async def _serve(self) -> None:
        try:
            await self._socket.serve()
        except Exception:
            logger.exception("the connection of a training host by long requests failed; the host connects again")
        finally:
            self.end(RESTART)

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            self.end(message["code"], message["reason"])
        elif message["type"] == "websocket.send" and self.ended is None:
            self._outgoing += framed(message["bytes"])
            if len(self._outgoing) > LARGEST_MESSAGE_BYTES:
                self.end(TOO_SLOW)
            self._news.set()

    def end(self, code: int, reason: str = "") -> None:
        """End the link, unless it has ended."""
        if self.ended is None:
            self.ended = (code, reason or HOST_CLOSE_CODES.get(code, ""))
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": code})
            self._news.set()

    def take(self, place: int, data: bytes) -> bool:
        """Take `data`, which begins at `place` of the stream; return whether nothing is missing before it.

        What has arrived before changes nothing. If too many messages wait, nothing is taken.
        """
        if place > self.arrived:
            return False
        fresh = data[self.arrived - place :]
        if fresh and self._inbox.qsize() < MOST_WAITING_MESSAGES:
            self.arrived += len(fresh)
            try:
                for message in self._frames.take(fresh):
                    self._inbox.put_nowait({"type": "websocket.receive", "bytes": message})
            except TooLarge:
                self.end(TOO_LARGE)
        return True

    async def wait(self, place: int) -> bytes | None:
        """Return what the host does not have after `place`, once there is something or the link has ended.

        The host has everything before it. Return None if the stream does not have this place any more, or not yet.
        """
        if not self._place <= place <= self._place + len(self._outgoing):
            return None
        del self._outgoing[: place - self._place]
        self._place = place
        if not self._outgoing and self.ended is None:
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_S):
                    await self._news.wait()
        # Another request may have confirmed more in the meantime.
        return bytes(self._outgoing[:LARGEST_MESSAGE_BYTES]) if self._place == place else None


class LongRequests:
    """Serves the requests of all links in one event loop."""

    def __init__(self, sockets: HostSockets, path: str) -> None:
        self._sockets, self._path = sockets, path
        self._links: dict[str, LongLink] = {}
        self._in_use: dict[str, int] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] != self._path:
            await _send_answer(send, (404, b"", JSON))
            return
        data = await _body(receive)
        if data is None:
            await _send_answer(send, _problem(413, f"Send at most {LARGEST_PIECE_BYTES} bytes at a time."))
            return
        working = asyncio.create_task(self._answer(scope, data))
        gone = asyncio.create_task(_disconnected(receive))
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if not working.done():
            # Nobody waits for the answer.
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
            return
        await _send_answer(send, working.result())

    async def _answer(self, scope: dict[str, Any], data: bytes) -> Answer:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        name = query.get("link", [""])[0]
        if not name:
            return _problem(426, "Connect with a WebSocket, or name a link: see docs/protocol.md.")
        if not LINK.fullmatch(name):
            return _problem(422, "link: give 32 hexadecimal digits.")
        place = _place(query)
        if place is None:
            return _problem(422, "at: give a place in the stream, in bytes.")
        credentials = dict(scope["headers"]).get(b"authorization", b"")
        link = self._links.get(name)
        is_new = link is None and scope["method"] == "PUT"
        if is_new:
            offered = {"type": "websocket", "subprotocols": query.get("protocol", [])}
            link = self._links[name] = LongLink(self._sockets, scope | offered, credentials)
        if link is None or not hmac.compare_digest(link.credentials, credentials):
            return _ended(RESTART, "This link is not open: open another one.")
        self._enter(name)
        is_refused = False
        try:
            if scope["method"] == "PUT":
                await link.admit()
                is_refused = is_new and link.ended is not None
            return await self._use(link, scope["method"], place, data)
        finally:
            self._leave(name)
            if is_refused and not self._in_use[name]:
                # Strangers must not fill the memory with links.
                self._leaving[name].cancel()
                self._forget(name)

    async def _use(self, link: LongLink, method: str, place: int, data: bytes) -> Answer:
        if method == "GET":
            found = await link.wait(place)
            if found is None:
                return _problem(
                    409, f"at: the stream does not contain byte {place}, which was sent before or does not exist yet."
                )
            return _ended(*link.ended) if link.ended is not None and not found else (200, found, BINARY)
        if link.ended is not None:
            return _ended(*link.ended)
        if method == "PUT":
            # It may have been opened before, and the answer was lost.
            return 200, b"{}", JSON
        if method == "POST":
            if not link.take(place, data):
                return _problem(409, f"at: {link.arrived} bytes have arrived: continue there.")
            return 200, json.dumps({"arrived": link.arrived}).encode(), JSON
        if method == "DELETE":
            link.end(LEFT)
            return 200, b"{}", JSON
        return _problem(405, "Send PUT, POST, GET or DELETE.")

    def _enter(self, name: str) -> None:
        self._in_use[name] = self._in_use.get(name, 0) + 1
        if (leaving := self._leaving.pop(name, None)) is not None:
            leaving.cancel()

    def _leave(self, name: str) -> None:
        """End the link, or forget one that has ended, if no other request comes."""
        self._in_use[name] -= 1
        if self._in_use[name]:
            return
        link = self._links[name]
        loop = asyncio.get_running_loop()
        if link.ended is None:
            self._leaving[name] = loop.call_later(IDLE_S, self._end, name)
        else:
            self._leaving[name] = loop.call_later(KEPT_S, self._forget, name)

    def _end(self, name: str) -> None:
        self._links[name].end(LEFT)
        self._leaving[name] = asyncio.get_running_loop().call_later(KEPT_S, self._forget, name)

    def _forget(self, name: str) -> None:
        for known in (self._links, self._in_use, self._leaving):
            known.pop(name, None)


def _place(query: dict[str, list[str]]) -> int | None:
    text = query.get("at", ["0"])[0]
    place = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else LARGEST_PLACE
    return place if place < LARGEST_PLACE else None


def _problem(status: int, text: str) -> Answer:
    return status, json.dumps({"error": text, "field": ""}).encode(), JSON


def _ended(code: int, reason: str) -> Answer:
    """Return the answer on a link that has ended, with the code that would close a WebSocket."""
    return 410, json.dumps({"code": code, "error": reason, "field": ""}).encode(), JSON


async def _body(receive: Any) -> bytes | None:
    """Return the body of a request, None if it is too large."""
    data: bytes = b""
    while True:
        message = await receive()
        data += message.get("body", b"")
        if len(data) > LARGEST_PIECE_BYTES:
            return None
        if not message.get("more_body"):
            return data


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_answer(send: Any, answer: Answer) -> None:
    status, body, kind = answer
    headers = [(b"content-type", kind), (b"cache-control", b"no-store"), (b"content-length", b"%d" % len(body))]
    if status == 426:
        headers.append((b"upgrade", b"websocket"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
