"""Messages on a stream of bytes, each preceded by its length. Does not depend on their content."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_LENGTH = struct.Struct(">I")
# A report has about 1 MiB of journals and at most 2 MiB of consoles, which marks of ranks can make six times as long.
LARGEST_MESSAGE_BYTES = 16 << 20
# Of such a stream, one HTTP request takes at most this much: proxies limit the size of requests, and a portal hands a
# request on to another process as a whole.
LARGEST_PIECE_BYTES = 64 << 10


class TooLarge(ValueError):
    """The stream announces a message that is larger than the limit."""


def framed(message: bytes) -> bytes:
    """Return a message with its length in front of it."""
    return _LENGTH.pack(len(message)) + message


class Frames:
    """Collects bytes as they arrive, and yields complete messages."""

    def __init__(self) -> None:
        self._arrived = bytearray()

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that `data` completes. Raises `TooLarge`."""
        self._arrived += data
        while len(self._arrived) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._arrived)
            if length > LARGEST_MESSAGE_BYTES:
                raise TooLarge(f"a message has {length} bytes, but the largest allowed has {LARGEST_MESSAGE_BYTES}")
            end = _LENGTH.size + length
            if len(self._arrived) < end:
                return
            message = bytes(self._arrived[_LENGTH.size : end])
            del self._arrived[:end]
            yield message
