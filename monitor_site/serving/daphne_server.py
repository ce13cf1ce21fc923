"""The portal's web server: Daphne with limits for live pages, and a graceful shutdown.

Importing this module installs Twisted's reactor, so only the serving process may import it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from autobahn.exception import Disconnected
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import defer, reactor, task

from monitor_site.serving.compression_offers import NAME, offer_to_take
from monitor_site.serving.inbox import Inbox
from monitor_site.serving.passing_on import PATH, whole_request
from monitor_site.serving.socket_wire import SocketClosed, SocketWire, wire_of
from runs.access.limiter import Bucket
from runs.protocol.messages import TOO_MANY, TOO_SLOW
from runs.protocol.wire_format import EXTENSION, LARGEST_REQUEST_BYTES, SMALLEST_COMPRESSED_BYTES, WINDOW_BITS, deflated

logger = logging.getLogger(__name__)

# Each ping to a socket has its own payload, and shows whether the peer still reads: a kernel acknowledges data that its
# program never reads, and a peer may send without reading. A peer that does not answer in time is disconnected, at most
# 14 s after it last read.
PING_INTERVAL_S = 5.0
PING_TIMEOUT_S = 8.0
PING_BYTES = 8
CHECK_INTERVAL_S = 0.5
# Turns off the pings of Daphne and autobahn.
NEVER_S = 10**9
# How long an application may run after its client has left before it is cancelled.
APPLICATION_CLOSE_TIMEOUT_S = 10
# A page that takes longer than this is answered with 503.
HTTP_TIMEOUT_S = 60
# Viewers only send commands and acknowledgements. The size of events is limited when they are stored.
INCOMING_LIMIT_BYTES = LARGEST_REQUEST_BYTES
LONGEST_MATCH_BYTES = 258
# The limit of what one socket may send. It is checked on arrival, because messages wait in memory while the database is
# slow. A frame costs 1, plus 1 per KiB. The burst is for a viewer that acknowledges each of the 2,000 events that it
# missed; the rate is for one that acknowledges each event of a run with 100 events per second.
MESSAGES_BURST = 3_000
MESSAGES_PER_S = 200.0
# If many viewers connect at once, the last of them wait for their turn; with a shorter limit they would come again.
HANDSHAKE_LIMIT_S = 30
# Connections that wait to be accepted: beyond Twisted's 50, each retries after one second, then three, then seven.
BACKLOG = 1024
CLOSE_CODE_NORMAL = 1000
# How long clients may take to answer the close frame before the server ends without them.
FAREWELL_S = 1.0
FAREWELL_POLL_S = 0.02
CLOSE_CODE_RESTART = 1012
OPCODE_TEXT, OPCODE_BINARY = 1, 2
ASGI = {"version": "3.0"}
# Options that would let Daphne do the work of `PortalProtocol` are off.
SOCKET_OPTIONS = {
    "ping_interval": NEVER_S,
    "ping_timeout": 0,
    # Daphne would close a page that is open for a day with 1000.
    "websocket_timeout": -1,
    "websocket_connect_timeout": HANDSHAKE_LIMIT_S,
    "websocket_handshake_timeout": HANDSHAKE_LIMIT_S,
    # These would also limit what is sent.
    "websocket_max_message_size": 0,
    "websocket_max_frame_size": 0,
}
# The first of the three reserved bits, in autobahn's numbering.
RSV_COMPRESSED = 4

Application = Callable[..., Any]


class Pace:
    """Whether a connection accepts more data, as Twisted reports it. The method names are Twisted's (IPushProducer)."""

    def __init__(self) -> None:
        self._takes_more = asyncio.Event()
        self._takes_more.set()
        self.wait = self._takes_more.wait

    def pauseProducing(self) -> None:
        self._takes_more.clear()

    def resumeProducing(self) -> None:
        self._takes_more.set()

    def stopProducing(self) -> None:
        self._takes_more.set()


class PortalProtocol(WebSocketProtocol):
    """A socket that limits its input, compresses each message separately, and disconnects peers that do not read."""

    failedByMe: bool
    websocket_extensions: list[tuple[str, dict[str, list[str | bool]]]]
    is_compressed = False
    # Whether a compressed message may refer to the previous one.
    remembers = False
    # Used by the application to send directly, if it does.
    wire: SocketWire | None = None
    incoming_limit_bytes = INCOMING_LIMIT_BYTES
    _asked = b""

    def __init__(self) -> None:
        super().__init__()
        self._allowance = Bucket(MESSAGES_BURST, MESSAGES_PER_S)

    def dataReceived(self, data: bytes) -> None:
        pass_on = self.factory.server_class.pass_on
        if self.state == self.STATE_CONNECTING and pass_on is not None and pass_on(self.transport, data):
            return
        super().dataReceived(data)

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        # One whose handshake did not come this far is not among the connections of the server.
        if hasattr(self, "server"):
            super().onClose(wasClean, code, reason)

    def onConnect(self, request: Any) -> Any:
        # Autobahn refuses the connection for an offer that it does not understand.
        offer = offer_to_take(request.headers.get("sec-websocket-extensions", ""))
        self.websocket_extensions = [] if offer is None else [(NAME, offer)]
        return super().onConnect(request)

    def onPing(self, payload: bytes) -> None:
        if self._may_send(len(payload)):
            super().onPing(payload)

    def onMessageFrameBegin(self, length: int) -> None:
        self._may_send(length)
        # For what is received alone: autobahn's own limit applies to what is sent as well.
        self.maxMessagePayloadSize = self.incoming_limit_bytes
        try:
            super().onMessageFrameBegin(length)
        finally:
            self.maxMessagePayloadSize = 0

    def _may_send(self, length: int) -> bool:
        """Return whether a frame of `length` bytes is accepted; close the socket if it is one too many."""
        # One that is larger than a message may be gets a code of its own.
        if self.failedByMe or length > self.incoming_limit_bytes or self._allowance.take(1 + length / 1024):
            return True
        # Makes autobahn drop the following frames.
        self.failedByMe = True
        self.sendCloseFrame(code=TOO_MANY)
        return False

    def onOpen(self) -> None:
        # Spread randomly, because many viewers may connect at the same time.
        self._asked_at = time.monotonic() - random.uniform(0, PING_INTERVAL_S)
        self.is_compressed = self._perMessageCompress is not None
        self.remembers = self.is_compressed and not self._perMessageCompress.server_no_context_takeover
        # Otherwise autobahn's copy of the handshake would stay in memory as long as the socket.
        self.http_headers.clear()
        self.http_request_data = b""
        super().onOpen()

    def onPong(self, payload: bytes) -> None:
        if self._may_send(len(payload)) and payload == self._asked:
            self._asked = b""

    def check_reading(self, now: float, stood_still_s: float) -> None:
        """Send a ping, or close if the peer has not answered in time. `now` is from the monotonic clock.

        In the `stood_still_s` seconds before `now`, this process read no answers, so no peer is at fault.
        """
        if self.state != self.STATE_OPEN:
            return
        if self._asked:
            self._asked_at += stood_still_s
            if now - self._asked_at > PING_TIMEOUT_S:
                # If not even this is accepted, autobahn drops the connection a second later.
                self.sendCloseFrame(code=TOO_SLOW)
        elif now - self._asked_at > PING_INTERVAL_S:
            self._asked, self._asked_at = os.urandom(PING_BYTES), now
            self.sendPing(self._asked)

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:
        """Send a message, compressed separately if that was agreed: a compressor per socket would take 256 KiB."""
        if self.state != self.STATE_OPEN:
            raise Disconnected("Attempt to send on a closed protocol")
        payload = content if isinstance(content, bytes) else content.encode()
        rsv = 0
        if self.is_compressed and len(payload) >= SMALLEST_COMPRESSED_BYTES:
            payload, rsv = deflated(payload), RSV_COMPRESSED
            if self.remembers and self.wire is not None:
                self.wire.window = b""
        self.sendFrame(opcode=OPCODE_BINARY if binary else OPCODE_TEXT, payload=payload, rsv=rsv)


class SharedDeflate(PerMessageDeflateOfferAccept):
    """The answer to an offer of compression (RFC 7692 §7.1): messages of viewers do not refer to earlier ones."""

    def __init__(self, offer: PerMessageDeflateOffer) -> None:
        super().__init__(
            offer,
            request_no_context_takeover=True,
            no_context_takeover=offer.request_no_context_takeover,
            window_bits=WINDOW_BITS,
            # zlib may hold back up to one match without a sign of it. A message that is too large by so little reaches
            # the application, which closes with the same code.
            max_message_size=INCOMING_LIMIT_BYTES + LONGEST_MATCH_BYTES,
        )

    def get_extension_string(self) -> str:
        answer: str = self.EXTENSION_NAME + "; client_no_context_takeover"
        if self.offer.request_no_context_takeover:
            answer += "; server_no_context_takeover"
        if self.offer.request_max_window_bits:
            answer += f"; server_max_window_bits={WINDOW_BITS}"
        return answer


def accept_compression(offers: Iterable[PerMessageDeflateOffer]) -> SharedDeflate | None:
    """Return the answer to the offers that `offer_to_take` accepted, None if there are none."""
    return next(map(SharedDeflate, offers), None)


class PortalServer(Server):
    """Daphne that can send every close code, closes its sockets with 1012 before it ends, and limits what it receives.

    `listen_failure` is why it cannot listen.
    """

    listen_failure: str | None = None
    # Whether sockets compress what they send, for clients that offer it.
    compresses = True
    # Takes a new connection and its first bytes to another process, and returns whether it did.
    pass_on: Callable[[Any, bytes], bool] | None = None
    protocol = PortalProtocol
    _checked_at = float("inf")

    @property
    def ws_factory(self) -> Any:
        """Return the factory of the sockets' protocols."""
        return self._ws_factory

    @ws_factory.setter
    def ws_factory(self, factory: Any) -> None:
        factory.protocol = self.protocol
        factory.setProtocolOptions(
            # A socket that violates the protocol gets a close code: by default autobahn would cut the connection
            # without one.
            failByDrop=False,
        )
        if self.compresses:
            factory.setProtocolOptions(perMessageCompressionAccept=accept_compression)
        self._ws_factory = factory

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Give sockets direct access to their connection, for messages that many receive, and a smaller queue."""
        if not isinstance(protocol, WebSocketProtocol):
            if self._passed_on(protocol):
                return None
            return super().create_application(protocol, scope)
        scope |= {"asgi": ASGI, "extensions": {EXTENSION: partial(wire_of, protocol)}}
        inbox = self.inbox_of(protocol)
        application = self.application(scope=scope, receive=inbox.get, send=partial(self.handle_reply, protocol))
        self.connections[protocol]["application_instance"] = asyncio.ensure_future(application)
        return inbox

    def _passed_on(self, request: Any) -> bool:
        """Return whether a plain request belongs to another process, which has got its connection now."""
        if self.pass_on is None or not request.path.endswith(PATH.encode()):
            return False
        whole = whole_request(request)
        return whole is not None and self.pass_on(request.transport, whole)

    def inbox_of(self, protocol: Any) -> Inbox:
        return Inbox()

    def run(self) -> None:
        reactor.callWhenRunning(self.check_reading_forever)
        super().run()

    def check_reading_forever(self) -> None:
        """Check periodically whether all sockets still read."""
        now = time.monotonic()
        stood_still_s = max(0.0, now - self._checked_at - CHECK_INTERVAL_S)
        self._checked_at = now
        for protocol in self._open_sockets():
            protocol.check_reading(now, stood_still_s)
        reactor.callLater(CHECK_INTERVAL_S, self.check_reading_forever)  # type: ignore[arg-type]

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Send an answer; if it comes in parts, at the speed of its client.

        Daphne itself would buffer a large file in memory for a slow client.
        """
        if isinstance(protocol, WebSocketProtocol):
            await self._handle_socket_reply(protocol, message)
            return
        details = self.connections.get(protocol)
        comes_more = message["type"] == "http.response.body" and bool(message.get("more_body"))
        if details is None or (not comes_more and "pace" not in details):
            await super().handle_reply(protocol, message)
            return
        if comes_more and "pace" not in details:
            details["pace"] = Pace()
            protocol.registerProducer(details["pace"], True)
        elif not comes_more:
            protocol.unregisterProducer()
        await super().handle_reply(protocol, message)
        # The timeout is for a client that accepts nothing, not for a long transfer.
        protocol.request_start = time.time()
        if comes_more:
            await details["pace"].wait()

    async def _handle_socket_reply(self, protocol: WebSocketProtocol, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and protocol.state != protocol.STATE_CONNECTING:
            # Not `sendClose`: that refuses the codes which the standard keeps for servers.
            reason = message.get("reason") or ""
            protocol.sendCloseFrame(code=message.get("code") or CLOSE_CODE_NORMAL, reasonUtf8=reason.encode())
            return
        try:
            await super().handle_reply(protocol, message)
        except Disconnected as error:
            raise SocketClosed(str(error)) from error

    def listen_error(self, failure: Any) -> None:
        self.listen_failure = failure.getErrorMessage()
        self.stop()

    def kill_all_applications(self) -> defer.Deferred[Any]:
        """Stop listening, close every socket, give applications a moment to end, and cancel the rest."""
        return defer.ensureDeferred(self._say_farewell())

    async def _say_farewell(self) -> None:
        for listener in self.listeners:
            listener.addCallback(_stop_listening)
        for protocol in self._open_sockets():
            protocol.sendCloseFrame(code=CLOSE_CODE_RESTART)
        for _ in range(round(FAREWELL_S / FAREWELL_POLL_S)):
            if not any(self._open_sockets()) and not any(self._applications()):
                return
            await task.deferLater(reactor, FAREWELL_POLL_S)
        running = list(self._applications())
        for application in running:
            application.cancel()
        if running:
            ended = asyncio.gather(*running, return_exceptions=True)
            await defer.Deferred.fromFuture(ended)

    def _open_sockets(self) -> Iterator[WebSocketProtocol]:
        for protocol, details in list(self.connections.items()):
            if isinstance(protocol, WebSocketProtocol) and "disconnected" not in details:
                yield protocol

    def _applications(self) -> Iterator[asyncio.Future[Any]]:
        for details in list(self.connections.values()):
            application = details.get("application_instance")
            if application is not None and not application.done():
                yield application


def serve(
    application: Application,
    host: str,
    port: int,
    ready: Callable[[], None] | None = None,
    *,
    compress: bool = True,
    pass_on: Callable[[Any, bytes], bool] | None = None,
) -> str | None:
    """Serve until SIGTERM or SIGINT and return None, or return why it cannot listen on `host` and `port`.

    With `compress` sockets are offered permessage-deflate. `pass_on`: see `PortalServer`.
    There is no access log: addresses of sockets carry tokens.
    """
    server = PortalServer(
        application=application,
        endpoints=[f"{place}:backlog={BACKLOG}" for place in build_endpoint_description_strings(host=host, port=port)],
        http_timeout=HTTP_TIMEOUT_S,
        **SOCKET_OPTIONS,
        application_close_timeout=APPLICATION_CLOSE_TIMEOUT_S,
        verbosity=0,
        server_name="",
        ready_callable=ready,
    )
    server.compresses = compress
    server.pass_on = pass_on
    server.run()
    return server.listen_failure


def _stop_listening(port: Any) -> Any:
    if port is not None:
        port.stopListening()
    return port
