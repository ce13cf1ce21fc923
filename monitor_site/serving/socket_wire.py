"""The connection of one WebSocket, lent to the application: ready frames go to it without Daphne, Twisted or autobahn.

One `socket.send` per viewer is most of what an event costs then; a pass through Twisted's writing (two changes of epoll
per frame) and autobahn's (one encoding and one log line per frame) would be several times as much. This file alone
touches attributes that Twisted does not publish (`dataBuffer`, `_tempDataBuffer`); `tests/serving/test_socket_wire.py`
fails if they change, and `wire_of` then offers nothing, so that messages pass through Daphne.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet import tcp

# What the kernel may hold for a viewer who does not read; it would take some MiB by itself.
KERNEL_BUFFER_BYTES = 256 * 1024

_OPEN = WebSocketProtocol.STATE_OPEN


class SocketClosed(OSError):
    """A message to a socket that is closed. ASGI asks for an `OSError`."""


class SocketWire:
    """Sends whole WebSocket frames on an open connection. Implements `runs.protocol.wire_format.Wire`."""

    __slots__ = ("_protocol", "_socket", "_transport", "compressed", "window")

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._socket: socket.socket = self._transport.getHandle()
        self.compressed = protocol.is_compressed
        self.window: bytes | None = b"" if protocol.remembers else None

    def send(self, frame: bytes) -> bool:
        """Hand a frame to the kernel at once. Return False, and send nothing, if earlier bytes wait or it is closed."""
        transport = self._transport
        if transport.dataBuffer or transport._tempDataBuffer or self._protocol.state != _OPEN:
            return False
        try:
            sent = self._socket.send(frame)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ENOBUFS):
                # The peer is gone. Twisted notices it when it reads, and notifies the application.
                return True
            sent = 0
        if sent < len(frame):
            transport.write(frame[sent:])
        return True

    async def drained(self) -> None:
        """Wait until no bytes wait. Raises `SocketClosed` if the connection is closed or closing."""
        if self._protocol.state == _OPEN and (self._transport.dataBuffer or self._transport._tempDataBuffer):
            drain = _Drain()
            self._transport.registerProducer(drain, False)
            try:
                await drain.wait()
            finally:
                self._transport.unregisterProducer()
        if self._protocol.state != _OPEN:
            raise SocketClosed("the connection is closed")


class _Drain:
    """Hears from a transport that it holds nothing any longer. The names are Twisted's (IPullProducer)."""

    def __init__(self) -> None:
        self._is_registered = False
        self._is_empty = asyncio.Event()
        self.wait = self._is_empty.wait

    def resumeProducing(self) -> None:
        # The first call comes with the registration, whatever the transport holds.
        if self._is_registered:
            self._is_empty.set()
        self._is_registered = True

    def stopProducing(self) -> None:
        self._is_empty.set()


def wire_of(protocol: Any) -> SocketWire | None:
    """Return the wire of a socket's protocol, None if its transport is not one that this file knows, or is closed."""
    transport = protocol.transport
    plain = isinstance(transport, tcp.Server) and not transport.TLS
    is_known = plain and hasattr(transport, "dataBuffer") and hasattr(transport, "_tempDataBuffer")
    if protocol.state != _OPEN or not is_known:
        return None
    # Whatever served HTTP on this connection before is not a producer of it any longer.
    transport.unregisterProducer()
    transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
    protocol.wire = SocketWire(protocol)
    return protocol.wire  # type: ignore[no-any-return]
