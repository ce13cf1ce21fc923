"""Text messages on a WebSocket as bytes, and the connection that takes them.

Framing after RFC 6455 §5.2, compression after RFC 7692 §7.2.1.

A message is compressed by itself, or with one message before it in the window: so the same bytes suit every viewer who
agreed to compression, or every one whose last compressed message was that one. Pure functions.
"""

from __future__ import annotations

import struct
import zlib
from typing import Protocol

# What a viewer may send in one message. Our own server judges it as it comes in; others may take any size.
LARGEST_REQUEST_BYTES = 64 * 1024
# A window of 4 KiB suits messages of a few hundred bytes, and clients that limit the window allow it as a rule.
WINDOW_BITS = 12
MEMORY_LEVEL = 6
# What is smaller grows by compression, or gains less than it costs.
SMALLEST_COMPRESSED_BYTES = 128

FIN_TEXT = 0x81
FIN_TEXT_COMPRESSED = 0xC1
LARGEST_7_BITS, LARGEST_16_BITS = 125, 0xFFFF
END_OF_BLOCK = b"\x00\x00\xff\xff"


def text_frame(payload: bytes, *, compressed: bool = False) -> bytes:
    """Return the frame in which a server sends a whole message of UTF-8, or what `deflated` made of it."""
    first = FIN_TEXT_COMPRESSED if compressed else FIN_TEXT
    length = len(payload)
    if length <= LARGEST_7_BITS:
        return struct.pack("!BB", first, length) + payload
    if length <= LARGEST_16_BITS:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def deflated(payload: bytes, window: bytes = b"") -> bytes:
    """Return a compressed message without the four bytes that RFC 7692 §7.2.1 leaves out.

    `window` is what the receiver's window ends with: the end of the last compressed message, or nothing.
    """
    compressor = zlib.compressobj(
        zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -WINDOW_BITS, MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, window
    )
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(END_OF_BLOCK)


class Wire(Protocol):
    """The viewer's connection, where the server offers it to the application (`EXTENSION` in an ASGI scope)."""

    # Whether the viewer agreed to compressed messages.
    compressed: bool
    # The end of the last compressed message, to which the next may refer: empty if that is not known, None if the
    # viewer did not agree to it. The sender of a frame writes it.
    window: bytes | None

    def send(self, frame: bytes) -> bool:
        """Hand a WebSocket frame to the kernel at once. Return False, and send nothing, if earlier bytes wait."""

    async def drained(self) -> None:
        """Wait until no bytes wait. Raises `OSError` if the connection is closed."""


# Under this name a scope's `extensions` may have a function that returns the connection's `Wire`, or None.
EXTENSION = "steersman.wire"
