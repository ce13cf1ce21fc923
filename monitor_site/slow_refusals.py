"""Delays refusals to clients that send too many requests, one at a time, so that quick retries cost little."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from runs.live.socket_limits import address_of

TOO_MANY_REQUESTS = 429
DELAY_S = 1.0
# Refusals of one address follow one another, so eight guessers together make five requests per second.
APART_S = 0.2
# No connection is held for longer, however many requests there are.
LONGEST_S = 30.0
MOST_REMEMBERED = 10_000

Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[dict[str, Any], Callable[[], Awaitable[dict[str, Any]]], Send], Awaitable[None]]


class Turns:
    """When the next refusal of each address is due. Addresses that were refused longest ago are dropped first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Return for how many seconds a refusal to `address` must wait, and count it."""
        now = self._clock()
        due = min(max(now + DELAY_S, self._last.pop(address, 0.0) + APART_S), now + LONGEST_S)
        self._last[address] = due
        if len(self._last) > MOST_REMEMBERED:
            self._last.popitem(last=False)
        return due - now


def refuse_slowly(application: Application) -> Application:
    """Return an ASGI application that delays answers 429 until their turn, without occupying a thread."""
    turns = Turns()

    async def answer(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
        async def send_late(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] == TOO_MANY_REQUESTS:
                await asyncio.sleep(turns.wait_s(address_of(scope)))
            await send(message)

        await application(scope, receive, send_late)

    return answer
