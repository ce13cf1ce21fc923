"""The portal's web server: Daphne with limits that fit live pages, and an orderly end.

Importing this module installs Twisted's reactor: only the process that serves may do it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from autobahn.exception import Disconnected
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import defer, reactor, task

# A half-open peer is noticed after 13 s. The time-out must stay below the interval: see autobahn's timers.
PING_INTERVAL_S = 6
PING_TIMEOUT_S = 5
# How long an application may go on after its client left before it is cancelled.
APPLICATION_CLOSE_TIMEOUT_S = 10
# A page that takes longer than this to make is answered with 503.
HTTP_TIMEOUT_S = 60
# Viewers send commands and acknowledgements only. What they are sent is bounded where events are stored.
INCOMING_LIMIT_BYTES = 64 * 1024
# When a crowd comes, the last of it waits for its turn: cut before, it would come once more.
HANDSHAKE_LIMIT_S = 30
# Connections that wait to be taken: beyond Twisted's 50 each tries again after one second, then three, then seven.
BACKLOG = 1024
CLOSE_CODE_NORMAL = 1000
# How long clients may take to answer the close frame before the server ends without them.
FAREWELL_S = 1.0
FAREWELL_POLL_S = 0.02
CLOSE_CODE_RESTART = 1012

Application = Callable[..., Any]


class Pace:
    """What Twisted tells of a connection: whether it takes more now. The names are Twisted's (IPushProducer)."""

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
    """A socket with a limit for what it receives alone: autobahn's own limit applies to what is sent as well."""

    def onMessageFrameBegin(self, length: int) -> None:
        self.maxMessagePayloadSize = INCOMING_LIMIT_BYTES
        try:
            super().onMessageFrameBegin(length)
        finally:
            self.maxMessagePayloadSize = 0


class SocketClosed(OSError):
    """A message to a socket that is closed. ASGI asks for an `OSError`."""


class PortalServer(Server):
    """Daphne that can send every close code, tells its sockets 1012 before it ends, and bounds what it receives.

    `listen_failure` says why it cannot listen.
    """

    listen_failure: str | None = None

    @property
    def ws_factory(self) -> Any:
        """What makes the protocol of each socket."""
        return self._ws_factory

    @ws_factory.setter
    def ws_factory(self, factory: Any) -> None:
        factory.protocol = PortalProtocol
        # A socket that is in the wrong is told why: by default autobahn would cut it without a word.
        factory.setProtocolOptions(failByDrop=False)
        self._ws_factory = factory

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Pass an answer on; where it comes in parts, no faster than its client takes them.

        Daphne itself would keep all of a large file in memory for a slow client.
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
        # The limit is for a client that takes nothing, not for a long transfer.
        protocol.request_start = time.time()
        if comes_more:
            await details["pace"].wait()

    async def _handle_socket_reply(self, protocol: WebSocketProtocol, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close" and protocol.state != protocol.STATE_CONNECTING:
            # Not `sendClose`: that refuses the codes which the standard keeps for servers.
            protocol.sendCloseFrame(code=message.get("code") or CLOSE_CODE_NORMAL)
            return
        try:
            await super().handle_reply(protocol, message)
        except Disconnected as error:
            raise SocketClosed(str(error)) from error

    def listen_error(self, failure: Any) -> None:
        self.listen_failure = failure.getErrorMessage()
        self.stop()

    def kill_all_applications(self) -> defer.Deferred[Any]:
        """Stop listening, close every socket, give applications a moment to end, cancel what is left."""
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


def serve(application: Application, host: str, port: int, ready: Callable[[], None] | None = None) -> str | None:
    """Serve until SIGTERM or SIGINT; return None then, or why it cannot listen on `host` and `port`.

    There is no access log: addresses of sockets carry tokens.
    """
    server = PortalServer(
        application=application,
        endpoints=[f"{place}:backlog={BACKLOG}" for place in build_endpoint_description_strings(host=host, port=port)],
        http_timeout=HTTP_TIMEOUT_S,
        ping_interval=PING_INTERVAL_S,
        ping_timeout=PING_TIMEOUT_S,
        # Daphne would close a page left open for a day with 1000.
        websocket_timeout=-1,
        websocket_connect_timeout=HANDSHAKE_LIMIT_S,
        websocket_handshake_timeout=HANDSHAKE_LIMIT_S,
        # These would bound what is sent, too: see `PortalProtocol`.
        websocket_max_message_size=0,
        websocket_max_frame_size=0,
        application_close_timeout=APPLICATION_CLOSE_TIMEOUT_S,
        verbosity=0,
        server_name="",
        ready_callable=ready,
    )
    server.run()
    return server.listen_failure


def _stop_listening(port: Any) -> Any:
    if port is not None:
        port.stopListening()
    return port
