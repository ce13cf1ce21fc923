"""What waits to be sent to one viewer: bounded, so that a slow viewer costs only itself."""

from __future__ import annotations

import asyncio
from collections import deque

# A viewer that is further behind than this comes back by `seq` and reads the database instead.
LARGEST_BACKLOG_BYTES = 4 << 20
LARGEST_BACKLOG_FRAMES = 5_000


class Outbox:
    """Frames for one viewer, in order, as (seq, text); seq is 0 where a frame has no number."""

    def __init__(self) -> None:
        self._frames: deque[tuple[int, str]] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()
        self.overflowed = False

    def put(self, seq: int, frame: str, taken: int) -> None:
        """Queue a frame of `taken` bytes; behind the bound nothing is kept and `overflowed` is set."""
        if self.overflowed:
            return
        self._frames.append((seq, frame))
        self._bytes += taken
        if self._bytes > LARGEST_BACKLOG_BYTES or len(self._frames) > LARGEST_BACKLOG_FRAMES:
            self._frames.clear()
            self.overflowed = True
        self._ready.set()

    async def take(self) -> list[tuple[int, str]]:
        """Wait for frames and return all that wait; an empty list once the outbox has overflowed."""
        await self._ready.wait()
        self._ready.clear()
        frames = list(self._frames)
        self._frames.clear()
        self._bytes = 0
        return frames
