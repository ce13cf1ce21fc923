"""Repeats some of the messages that a WebSocket client sends, as a faulty proxy might."""

from __future__ import annotations

import random

# The last fragment of a binary message (RFC 6455, section 5.2).
WHOLE_BINARY = 0x82
MASKED, LENGTH = 0x80, 0x7F
REPEATED_PART = 0.1


class RepeatedFrames:
    """What one client sends: the request as it is, then its frames if it asks for a WebSocket."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._rest = b""
        self._is_open = False
        self._is_plain = False
        self._messages = 0
        self.count = 0

    def take(self, data: bytes) -> bytes:
        """Return what is to be passed on now."""
        self._rest += data
        passed = b""
        if not self._is_open:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            self._is_plain = self._is_plain or bool(end) and b"upgrade: websocket" not in head.lower()
            if self._is_plain:
                passed, self._rest = self._rest, b""
                return passed
            if not end:
                return b""
            self._is_open, passed, self._rest = True, head + end, rest
        while size := self._frame_bytes():
            frame, self._rest = self._rest[:size], self._rest[size:]
            passed += frame
            if frame[0] == WHOLE_BINARY and self._is_repeated():
                self.count += 1
                passed += frame
        return passed

    def _is_repeated(self) -> bool:
        """Return whether the next message is repeated: the second of a connection, and some others."""
        self._messages += 1
        return self._messages == 2 or self._rng.random() < REPEATED_PART

    def _frame_bytes(self) -> int:
        """Return the size of the first frame, 0 if it has not arrived as a whole."""
        if len(self._rest) < 10:
            # Short frames end with a mask of 4 bytes and some content; a control frame has at least 6 bytes.
            return self._short_frame_bytes()
        length, begin = self._rest[1] & LENGTH, 2
        if length >= 126:
            wide = 2 if length == 126 else 8
            length, begin = int.from_bytes(self._rest[2 : 2 + wide], "big"), 2 + wide
        size = begin + (4 if self._rest[1] & MASKED else 0) + length
        return size if len(self._rest) >= size else 0

    def _short_frame_bytes(self) -> int:
        if len(self._rest) < 2 or self._rest[1] & LENGTH >= 126:
            return 0
        size = 2 + (4 if self._rest[1] & MASKED else 0) + (self._rest[1] & LENGTH)
        return size if len(self._rest) >= size else 0
