"""Compression of answers: fast, and with a random length."""

from __future__ import annotations

import gzip
import secrets

# Curves consist of digits that look random: a higher level takes five times as long for 4 to 7 % fewer bytes, and the
# reader waits for it.
LEVEL = 1
# Lengths differ by up to this many bytes, which hides the length of the content from eavesdroppers.
RANDOM_BYTES = 100
# RFC 1952: a header without a file name is this long, and one bit of its fourth byte says that a name follows it.
HEADER_BYTES = 10
HAS_NAME = 8


def compressed(content: bytes) -> bytes:
    """Return `content` in gzip format, with a file name of random length as padding."""
    packed = gzip.compress(content, LEVEL, mtime=0)
    header = bytearray(packed[:HEADER_BYTES])
    header[3] |= HAS_NAME
    return bytes(header) + b"a" * secrets.randbelow(RANDOM_BYTES) + b"\0" + packed[HEADER_BYTES:]
