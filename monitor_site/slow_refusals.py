"""Who is told that they ask too often hears it late, so that whoever tries on at once costs little."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

TOO_MANY_REQUESTS = 429
DELAY_S = 1.0

Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Send], Awaitable[None]]


def refuse_slowly(application: Application) -> Application:
    """Return an ASGI application whose answers 429 wait for `DELAY_S`; that takes no thread."""

    async def answer(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
        async def send_late(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] == TOO_MANY_REQUESTS:
                await asyncio.sleep(DELAY_S)
            await send(message)

        await application(scope, receive, send_late)

    return answer
