"""Messages that a socket's peer has sent and the application has not read yet."""

from __future__ import annotations

import asyncio
from typing import Any


class Inbox:
    """A queue of ASGI messages with one reader: the part of `asyncio.Queue` that Daphne needs, in a tenth of its
    memory.

    Its length is limited by what the protocol accepts.
    """

    __slots__ = ("_messages", "_woken")

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._woken: asyncio.Future[None] | None = None

    def put_nowait(self, message: dict[str, Any]) -> None:
        self._messages.append(message)
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def get(self) -> dict[str, Any]:
        """Return the oldest message; wait if there is none."""
        while not self._messages:
            self._woken = asyncio.get_running_loop().create_future()
            await self._woken
        return self._messages.pop(0)
