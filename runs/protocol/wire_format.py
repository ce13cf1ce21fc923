"""Text messages on a WebSocket as bytes, and the interface of the connection that sends them.

Framing as in RFC 6455 §5.2, compression as in RFC 7692 §7.2.1.

A message is compressed by itself, or with one earlier message as its window. The same bytes are then valid for every
viewer that agreed to compression, or for all whose last compressed message was that one. Pure functions.
"""

from __future__ import annotations

import struct
import zlib
from typing import Protocol

# The largest message of a viewer. Our server checks it while receiving; other servers may accept any size.
LARGEST_REQUEST_BYTES = 64 * 1024
# A window of 4 KiB suits messages of a few hundred bytes, and clients that limit the window usually allow it.
WINDOW_BITS = 12
MEMORY_LEVEL = 6
# Compressing smaller messages costs more than it saves.
SMALLEST_COMPRESSED_BYTES = 128

FIN_TEXT = 0x81
FIN_TEXT_COMPRESSED = 0xC1
LARGEST_7_BITS, LARGEST_16_BITS = 125, 0xFFFF
END_OF_BLOCK = b"\x00\x00\xff\xff"


def text_frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """Return the server frame with a whole message of UTF-8, or with the result of `deflated`."""
    first = FIN_TEXT_COMPRESSED if compressed else FIN_TEXT
    length = len(payload)
    if length <= LARGEST_7_BITS:
        return struct.pack("!BB", first, length) + payload
    if length <= LARGEST_16_BITS:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def deflated(payload: bytes, window: bytes = b"") -> bytes:
    """Return a compressed message without the four bytes that RFC 7692 §7.2.1 omits.

    `window` is the end of the receiver's window: the end of the last compressed message, or nothing.
    """
    compressor = zlib.compressobj(
        zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, window
    )
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(END_OF_BLOCK)


class Wire(Protocol):
    """The viewer's connection, if the server offers it to the application (`EXTENSION` in an ASGI scope)."""

    # Whether the viewer agreed to compression.
    compressed: bool
    # The end of the last compressed message, to which the next may refer; empty if it is unknown, None if the viewer
    # did not agree to it. The sender of a frame sets it.
    window: bytes | None

    def send(self, frame: bytes) -> bool:
        """Pass a WebSocket frame to the kernel at once. If earlier bytes wait, send nothing and return False."""

    async def drained(self) -> None:
        """Wait until no bytes are left to send. Raises `OSError` if the connection is closed."""


# The key in a scope's `extensions` with a function that returns the connection's `Wire`, or None.
EXTENSION = "steersman.wire"
