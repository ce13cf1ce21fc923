"""A query of a database that may hang: concurrent callers share it, and each waits only for a limited time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class SharedQuestion(Generic[Answer]):
    """Runs `ask` on its own threads, since all others may wait for the same database. A hanging query occupies one
    thread.
    """

    def __init__(self, ask: Callable[[], Answer], name: str) -> None:
        self._ask = ask
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix=name)
        self._asked: asyncio.Future[Answer] | None = None

    async def answer(self, timeout_s: float) -> Answer:
        """Return the result of the query in progress, or of a new one.

        Raises `TimeoutError` if there was none in time, and the exceptions of `ask`.
        """
        loop = asyncio.get_running_loop()
        if self._asked is None or self._asked.done() or self._asked.get_loop() is not loop:
            self._asked = loop.run_in_executor(self._threads, self._ask)
        return await asyncio.wait_for(asyncio.shield(self._asked), timeout_s)
