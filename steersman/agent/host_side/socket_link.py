"""A link over a stream socket: bytes are sent and received during each pass of the host side, and no call blocks.

No Django, no torch.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable

from steersman.messages.link import FromHost, FromRecord, LinkCut
from steersman.wire.codec import BadMessage, decode, encode
from steersman.wire.framing import Frames, TooLarge, framed

logger = logging.getLogger(__name__)

RECONNECT_PAUSE_S = 0.25
READ_BYTES = 1 << 18
SPEAKS_OTHERWISE = "a message of the record side cannot be read (%s): connecting again"


class SocketLink:
    """A `steersman.messages.link.Link`. `connect` returns a connected socket, or raises `OSError` at once."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._socket: socket.socket | None = None
        self._outgoing = bytearray()
        self._frames = Frames()
        self._retry_at = 0.0

    def send(self, message: FromHost) -> None:
        """Send a message, if there is a connection: a message sent before `receive` has made one is dropped."""
        if self._socket is not None:
            self._outgoing += framed(encode(message))
            self._write(self._socket)

    def receive(self) -> list[FromRecord]:
        """Return the messages that have arrived. Raises `LinkCut` for every new connection, also for the first."""
        if self._socket is None:
            return self._find_way()
        return self._read(self._socket) if self._write(self._socket) else []

    def close(self) -> None:
        """Close the connection; the next `receive` opens another one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._retry_at = time.monotonic() + RECONNECT_PAUSE_S

    def _find_way(self) -> list[FromRecord]:
        if time.monotonic() < self._retry_at:
            return []
        try:
            found = self._connect()
        except OSError:
            self._retry_at = time.monotonic() + RECONNECT_PAUSE_S
            return []
        found.setblocking(False)
        self._socket, self._frames = found, Frames()
        self._outgoing.clear()
        raise LinkCut

    def _write(self, to: socket.socket) -> bool:
        """Send as much as the socket takes; return whether it is still connected."""
        try:
            while self._outgoing:
                del self._outgoing[: to.send(self._outgoing)]
        except BlockingIOError:
            return True
        except OSError:
            self.close()
            return False
        return True

    def _read(self, source: socket.socket) -> list[FromRecord]:
        messages: list[FromRecord] = []
        try:
            while data := source.recv(READ_BYTES):
                messages += [decode(frame) for frame in self._frames.take(data)]
        except BlockingIOError:
            return messages
        except (BadMessage, TooLarge) as error:
            logger.error(SPEAKS_OTHERWISE, error)
        except OSError:
            pass
        self.close()
        return messages
