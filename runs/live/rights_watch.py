"""Ends open sockets whose right is gone: all of a process are asked about together, twice a second and on a word."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from runs.access.grants import Grant, check_grants
from runs.access.roles import Viewer
from runs.live.database_reads import reading

logger = logging.getLogger(__name__)

# Without the channel layer this alone must close a revoked socket within a second.
CHECK_INTERVAL_S = 0.5
# Who comes back learns what they may now.
ROLE_CHANGED = 4409


class Guarded(Protocol):
    async def end(self, code: int) -> None:
        """Close the socket with `code` and take nothing more from it."""


class RightsWatch:
    """The open sockets of one event loop, by what right each is open and as which viewer. Looks while there are any."""

    def __init__(self) -> None:
        self._watched: dict[Guarded, tuple[Grant, Viewer]] = {}
        self._word = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        self._blind = False

    def add(self, socket: Guarded, grant: Grant, viewer: Viewer) -> None:
        self._watched[socket] = (grant, viewer)
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_forever())

    def remove(self, socket: Guarded) -> None:
        self._watched.pop(socket, None)
        if not self._watched and self._checking is not None:
            self._checking.cancel()
            self._checking = None

    def wake(self) -> None:
        """Look now: somebody's access has changed."""
        self._word.set()

    async def _check_forever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CHECK_INTERVAL_S):
                    await self._word.wait()
            except TimeoutError:
                pass
            self._word.clear()
            try:
                await self._check()
                self._blind = False
            except Exception:  # a database that is away now may answer at the next look
                if not self._blind:
                    logger.exception("open sockets could not be checked; trying again")
                self._blind = True

    async def _check(self) -> None:
        watched = dict(self._watched)
        found = await reading(check_grants)({grant for grant, _ in watched.values()})
        ending = []
        for socket, (grant, viewer) in watched.items():
            now = found[grant]
            if socket in self._watched and (isinstance(now, int) or now.role != viewer.role):
                ending.append((socket, now if isinstance(now, int) else ROLE_CHANGED))
        for socket, _ in ending:
            del self._watched[socket]
        # Shielded: with the last socket this task is cancelled, and others' endings must go through.
        closing = asyncio.gather(*(socket.end(code) for socket, code in ending), return_exceptions=True)
        for outcome in await asyncio.shield(closing):
            if isinstance(outcome, Exception):
                logger.debug("a socket was gone before it could be ended: %s", outcome)
