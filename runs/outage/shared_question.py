"""A query of the database that may hang: callers that come meanwhile share it, and none of them waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class SharedQuestion(Generic[Answer]):
    """Asks by `ask`, on threads of its own, since all others may wait for the same database. What hangs keeps one."""

    def __init__(self, ask: Callable[[], Answer], name: str) -> None:
        self._ask = ask
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix=name)
        self._asked: asyncio.Future[Answer] | None = None

    async def answer(self, timeout_s: float) -> Answer:
        """Return the answer to the question that is under way, or to a new one.

        Raises `TimeoutError` if none came in time, and what `ask` raises.
        """
        loop = asyncio.get_running_loop()
        if self._asked is None or self._asked.done() or self._asked.get_loop() is not loop:
            self._asked = loop.run_in_executor(self._threads, self._ask)
        return await asyncio.wait_for(asyncio.shield(self._asked), timeout_s)
