"""Delay refusals to clients that ask too often and send them one at a time, so that quick retries cost little."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from runs.live.socket_limits import address_of

TOO_MANY_REQUESTS = 429
DELAY_S = 1.0
# Refusals of one address that are due at the same time follow each other: eight guessers ask five times a second.
APART_S = 0.2
# Nobody's connection is held for longer, however many ask.
LONGEST_S = 30.0
MOST_REMEMBERED = 10_000

Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Send], Awaitable[None]]


class Turns:
    """When the next refusal of each address is due. Forgets those first that were refused longest ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Return for how many seconds a refusal to `address` waits, and count it."""
        now = self._clock()
        due = min(max(now + DELAY_S, self._last.pop(address, 0.0) + APART_S), now + LONGEST_S)
        self._last[address] = due
        if len(self._last) > MOST_REMEMBERED:
            self._last.popitem(last=False)
        return due - now


def refuse_slowly(application: Application) -> Application:
    """Return an ASGI application whose answers 429 wait for their turn; that takes no thread."""
    turns = Turns()

    async def answer(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
        async def send_late(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] == TOO_MANY_REQUESTS:
                await asyncio.sleep(turns.wait_s(address_of(scope)))
            await send(message)

        await application(scope, receive, send_late)

    return answer
