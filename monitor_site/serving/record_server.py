"""The web server of `manage.py record`: Daphne for large messages of few hosts.

It takes connections that portals of this data folder pass on, and those of a port of its own, if it has one. Importing
this module installs Twisted's reactor.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import daphne.server  # noqa: F401  installs the reactor that asyncio uses, before the next imports
from channels.routing import ProtocolTypeRouter, URLRouter
from daphne.endpoints import build_endpoint_description_strings
from django.conf import settings
from django.urls import path, re_path
from twisted.internet import defer, protocol, reactor
from twisted.internet.interfaces import IFileDescriptorReceiver
from zope.interface import implementer  # type: ignore[import-untyped]

from monitor_site.prefix import under_prefix
from monitor_site.redis_socket import private_folder
from monitor_site.serving.daphne_server import (
    APPLICATION_CLOSE_TIMEOUT_S,
    BACKLOG,
    HTTP_TIMEOUT_S,
    SOCKET_OPTIONS,
    Application,
    PortalProtocol,
    PortalServer,
)
from monitor_site.serving.inbox import Inbox
from monitor_site.serving.passing_on import PATH, record_socket_path
from runs.live.consumers import NoSuchRun
from runs.live.origin import OriginGuard
from runs.metrics.probes import Probes
from steersman.wire.framing import LARGEST_MESSAGE_BYTES
from trainer.remote_hosts.host_sockets import HostSockets
from trainer.remote_hosts.long_requests import LongRequests

logger = logging.getLogger(__name__)

# A host sends one report at a time: one with more messages waiting is not read until they are handled.
MOST_WAITING_MESSAGES = 8
LARGEST_REQUEST_HEAD_BYTES = 256 * 1024


class HostProtocol(PortalProtocol):
    """The socket of a training host: messages may be large, and are read only as fast as they are handled."""

    incoming_limit_bytes = LARGEST_MESSAGE_BYTES

    def _may_send(self, length: int) -> bool:
        return not self.failedByMe


class PacedInbox(Inbox):
    """Stops reading from a connection while too many of its messages wait."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self._transport = transport

    def put_nowait(self, message: dict[str, Any]) -> None:
        super().put_nowait(message)
        if len(self._messages) == MOST_WAITING_MESSAGES:
            self._transport.pauseProducing()

    async def get(self) -> dict[str, Any]:
        message = await super().get()
        if len(self._messages) == MOST_WAITING_MESSAGES - 1:
            self._transport.resumeProducing()
        return message


@implementer(IFileDescriptorReceiver)
class PassedConnection(protocol.Protocol):
    """One connection that a portal passes on: first its descriptor, then its request, with its body if it has one. The
    names are Twisted's."""

    def __init__(self, take: Callable[[int, bytes], None]) -> None:
        self._take = take
        self._descriptor = -1
        self._request = b""

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self._close()
        self._descriptor = descriptor

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if len(self._request) > LARGEST_REQUEST_HEAD_BYTES:
            self._request = b""
            self._close()

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        try:
            if self._descriptor >= 0 and b"\r\n\r\n" in self._request:
                self._take(self._descriptor, self._request)
        except OSError as error:
            logger.debug("a training host has disconnected: %s", error)
        finally:
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class RecordServer(PortalServer):
    """Serves the socket of training hosts until it gets a signal."""

    protocol = HostProtocol
    compresses = False
    # Called once hosts can connect.
    ready: Callable[[], None] | None = None

    def inbox_of(self, protocol: Any) -> Inbox:
        return PacedInbox(protocol.transport)

    def run(self) -> None:
        reactor.callWhenRunning(self._open_record_socket)
        super().run()

    def _open_record_socket(self) -> None:
        path = record_socket_path(settings.STEERSMAN_DATA)
        private_folder(path.parent)
        # This process holds the lock of the data folder, so the process that created the socket has ended.
        path.unlink(missing_ok=True)
        factory = protocol.Factory.forProtocol(lambda: PassedConnection(self._adopt))
        self.listeners.append(defer.succeed(reactor.listenUNIX(str(path), factory, backlog=BACKLOG, mode=0o600)))
        if self.ready is not None:
            self.ready()

    def _adopt(self, descriptor: int, request: bytes) -> None:
        """Serve a connection that a portal has accepted, as if this process had accepted it with `request`."""
        with socket.socket(fileno=os.dup(descriptor)) as probe:
            family = probe.family
        factory = Adopting(self.http_factory)
        reactor.adoptStreamConnection(descriptor, family, factory)
        if factory.built is not None:
            factory.built.dataReceived(request)


class Adopting(protocol.Factory):
    """Builds one protocol of another factory, and keeps it."""

    def __init__(self, of: Any) -> None:
        self._of = of
        self.built: Any = None

    def buildProtocol(self, address: Any) -> Any:
        self.built = self._of.buildProtocol(address)
        return self.built


def application() -> Application:
    hosts: Any = HostSockets()
    sockets = URLRouter([path(PATH.lstrip("/"), hosts), re_path(r"", NoSuchRun.as_asgi())])
    prefix = settings.STEERSMAN_PREFIX
    requests = LongRequests(hosts, f"{prefix}{PATH}")
    router = {"http": Probes(requests, prefix), "websocket": OriginGuard(sockets)}
    return under_prefix(ProtocolTypeRouter(router), prefix)


def serve_hosts(host: str, port: int | None, ready: Callable[[], None]) -> str | None:
    """Serve until SIGTERM or SIGINT; return None then, or why it cannot listen on `host` and `port`.

    Without `port` only the portals of this data folder pass connections on. Call while holding the folder's lock.
    """
    endpoints = [] if port is None else build_endpoint_description_strings(host=host, port=port)
    server = RecordServer(
        application=application(),
        # Daphne refuses to start without any.
        endpoints=["none"],
        http_timeout=HTTP_TIMEOUT_S,
        **SOCKET_OPTIONS,
        application_close_timeout=APPLICATION_CLOSE_TIMEOUT_S,
        verbosity=0,
        server_name="",
    )
    server.ready = ready
    server.endpoints = [f"{place}:backlog={BACKLOG}" for place in endpoints]
    server.run()
    return server.listen_failure
