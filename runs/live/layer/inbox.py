"""The messages of the channel layer that need the database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

# If more wait, because the database does not answer, the oldest are dropped: the next poll reads what they announced.
LARGEST_INBOX = 1000


class Inbox:
    """Handles messages one after the other, in a task of its own, so that a slow database does not delay echoes.

    `handle` does not raise.
    """

    def __init__(self, handle: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self._handle = handle
        self._waiting: deque[dict[str, Any]] = deque(maxlen=LARGEST_INBOX)
        self._handling: asyncio.Task[None] | None = None

    def put(self, message: dict[str, Any]) -> None:
        self._waiting.append(message)
        if self._handling is None:
            self._handling = asyncio.create_task(self._handle_waiting())

    def stop(self) -> None:
        """Drop all messages."""
        self._waiting.clear()
        if self._handling is not None:
            self._handling.cancel()
            self._handling = None

    async def _handle_waiting(self) -> None:
        while self._waiting:
            await self._handle(self._waiting.popleft())
        self._handling = None
