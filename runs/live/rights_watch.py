"""Checks the permissions of open and new sockets, all together in a few queries.

Open sockets are checked twice per second and on request; those without permission are closed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from runs.access.grants import Grant, check_grants
from runs.access.roles import Viewer
from runs.live.database_reads import reading
from runs.outage.answers import noted_outage

logger = logging.getLogger(__name__)

# If the channel layer is unavailable, this check alone must close a revoked socket within a second.
CHECK_INTERVAL_S = 0.5
# A check that began at most this long ago is still valid for a new socket.
LONGEST_ANSWER_AGE_S = 0.5
# The client reconnects, and `hello` has its new permissions.
ROLE_CHANGED = 4409


class Guarded(Protocol):
    async def end(self, code: int) -> None:
        """Close the socket with `code` and handle nothing more from it."""


class RightsWatch:
    """The open sockets of one event loop, with their grants and viewers. Checks them while there are any."""

    def __init__(self) -> None:
        self._watched: dict[Guarded, tuple[Grant, Viewer]] = {}
        self._word = asyncio.Event()
        self._checking: asyncio.Task[None] | None = None
        self._blind = False
        # The viewer of each grant, and when its check began. Refusals are not cached.
        self._answers: dict[Grant, tuple[Viewer, float]] = {}
        self._told_at = 0.0
        self._waiting: dict[Grant, asyncio.Future[Viewer | int]] = {}
        self._answering: asyncio.Task[None] | None = None

    async def viewer_of(self, grant: Grant) -> Viewer | int:
        """Return the viewer of a grant, or the close code that refuses it, at most half a second old."""
        known = self._answers.get(grant)
        if known is not None and time.monotonic() - known[1] <= LONGEST_ANSWER_AGE_S and known[1] > self._told_at:
            return known[0]
        if grant not in self._waiting:
            self._waiting[grant] = asyncio.get_running_loop().create_future()
        answer = self._waiting[grant]
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer_all())
        # Shielded: if one client leaves meanwhile, the others still get the answer.
        return await asyncio.shield(answer)

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
        """Check now, because somebody's access has changed. Cached answers are no longer used."""
        self._told_at = time.monotonic()
        self._word.set()

    async def _answer_all(self) -> None:
        """Answer all waiting callers together, and repeat for those that arrived meanwhile."""
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, {}
                try:
                    found = await self._ask(set(waiting))
                except Exception as error:  # each caller gets the error
                    for answer in waiting.values():
                        answer.set_exception(error)
                        answer.exception()
                else:
                    for grant, answer in waiting.items():
                        answer.set_result(found[grant])
        finally:
            self._answering = None

    async def _ask(self, grants: set[Grant]) -> dict[Grant, Viewer | int]:
        """Query the database, and cache the grants that are valid."""
        asked_at = time.monotonic()
        found = await reading(check_grants)(grants)
        oldest = time.monotonic() - LONGEST_ANSWER_AGE_S
        kept = {grant: known for grant, known in self._answers.items() if known[1] >= oldest and grant not in found}
        new = {grant: (viewer, asked_at) for grant, viewer in found.items() if isinstance(viewer, Viewer)}
        self._answers = kept | new
        return found

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
            except Exception as error:  # an unavailable database may answer the next check
                if noted_outage(error) is None and not self._blind:
                    logger.exception("open sockets could not be checked; trying again")
                self._blind = True

    async def _check(self) -> None:
        watched = dict(self._watched)
        found = await self._ask({grant for grant, _ in watched.values()})
        ending = []
        for socket, (grant, viewer) in watched.items():
            now = found[grant]
            if socket in self._watched and (isinstance(now, int) or now.role != viewer.role):
                ending.append((socket, now if isinstance(now, int) else ROLE_CHANGED))
        for socket, _ in ending:
            del self._watched[socket]
        # Shielded: this task is cancelled with the last socket, but the other sockets must still be closed.
        closing = asyncio.gather(*(socket.end(code) for socket, code in ending), return_exceptions=True)
        for outcome in await asyncio.shield(closing):
            if isinstance(outcome, Exception):
                logger.debug("a socket was already closed before it could be ended: %s", outcome)
