"""The connection of one WebSocket for the application: prepared frames bypass Daphne, Twisted and autobahn.

An event then mostly costs one `socket.send` per viewer. Twisted's writing (two changes of epoll per frame) and
autobahn's (one encoding and one log line per frame) would take several times as long. Only this file uses attributes
that Twisted does not publish (`dataBuffer`, `_tempDataBuffer`); `tests/serving/test_socket_wire.py` fails if they
change, and `wire_of` then returns None, so that messages pass through Daphne.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet import tcp

# The kernel's buffer for a viewer that does not read; by default it would be several MiB.
KERNEL_BUFFER_BYTES = 256 * 1024

_OPEN = WebSocketProtocol.STATE_OPEN


class SocketClosed(OSError):
    """A message to a closed socket. ASGI requires an `OSError`."""


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
        """Pass a frame to the kernel at once.

        If earlier bytes wait or the socket is closed, send nothing and return False.
        """
        transport = self._transport
        if transport.dataBuffer or transport._tempDataBuffer or self._protocol.state != _OPEN:
            return False
        try:
            sent = self._socket.send(frame)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ENOBUFS):
                # The peer is gone. Twisted notices that when it reads, and notifies the application.
                return True
            sent = 0
        if sent < len(frame):
            transport.write(frame[sent:])
        return True

    async def drained(self) -> None:
        """Wait until no bytes are left to send. Raises `SocketClosed` if the connection is closed or closing."""
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
    """Notified by a transport when its buffer is empty. The method names are Twisted's (IPullProducer)."""

    def __init__(self) -> None:
        self._is_registered = False
        self._is_empty = asyncio.Event()
        self.wait = self._is_empty.wait

    def resumeProducing(self) -> None:
        # The first call comes with the registration, whether the buffer is empty or not.
        if self._is_registered:
            self._is_empty.set()
        self._is_registered = True

    def stopProducing(self) -> None:
        self._is_empty.set()


def wire_of(protocol: Any) -> SocketWire | None:
    """Return the wire of a socket's protocol, None if its transport is unknown to this file, or is closed."""
    transport = protocol.transport
    plain = isinstance(transport, tcp.Server) and not transport.TLS
    is_known = plain and hasattr(transport, "dataBuffer") and hasattr(transport, "_tempDataBuffer")
    if protocol.state != _OPEN or not is_known:
        return None
    # The object that served HTTP on this connection is no longer its producer.
    transport.unregisterProducer()
    transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)
    protocol.wire = SocketWire(protocol)
    return protocol.wire  # type: ignore[no-any-return]
