"""Limits on the open sockets of a user, of a share link and in total, over all web processes.

Each process writes what it holds into a row and reads what the others hold, at most twice a second and only while it
has sockets. A handshake is judged in memory, by what this process holds now and what the others wrote last: processes
that fill up in the same half second may let in a few too many.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from datetime import datetime

from django.conf import settings

from runs.access import socket_counts
from runs.access.grants import Grant
from runs.access.limiter import Clock
from runs.access.roles import Viewer
from runs.live.database_reads import reading
from runs.outage.answers import noted_outage

logger = logging.getLogger(__name__)

ALL = "all"
EXCHANGE_INTERVAL_S = 0.5
# A living process writes its row this often, even if nothing has changed. A row that is not written for the second
# is dead: judged by the reader's own clock, since clocks of hosts differ.
REWRITE_AFTER_S = 4.0
DEAD_AFTER_S = 15.0


class Places:
    """The places that the sockets of one event loop hold."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._own: Counter[str] = Counter()
        self._others: Counter[str] = Counter()
        # Of each other process: what its row said last, and since when it says so.
        self._seen: dict[uuid.UUID, tuple[datetime, float]] = {}
        self._written: dict[str, int] = {}
        self._written_at = self._exchanged_at = float("-inf")
        self._exchanging: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._blind = False

    async def take(self, key: str) -> bool:
        """Take a place of `key` and return True; return False if all are taken."""
        if self._exchanging is None:
            if self._clock() - self._exchanged_at > 2 * EXCHANGE_INTERVAL_S:
                self._heard.clear()
            self._exchanging = asyncio.create_task(self._exchange_forever())
        # The first socket for a while must not be judged by what the others held long ago.
        await self._heard.wait()
        if self._own[key] + self._others[key] >= most(key):
            return False
        self._own[key] += 1
        return True

    def held(self, key: str) -> int:
        """Return how many places of `key` this process holds."""
        return self._own[key]

    def give_back(self, key: str) -> None:
        self._own[key] -= 1
        if self._own[key] <= 0:
            del self._own[key]

    async def _exchange_forever(self) -> None:
        while True:
            wait_s = self._exchanged_at + EXCHANGE_INTERVAL_S - self._clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self._exchanged_at = self._clock()
            try:
                await self._read()
                await self._write()
                self._blind = False
            except Exception as error:  # a database that is away now may answer the next time
                if noted_outage(error) is None and not self._blind:
                    logger.exception("counts of sockets could not be exchanged; trying again")
                self._blind = True
            if not self._own and (self._blind or not self._written):
                self._exchanging = None
                return

    async def _read(self) -> None:
        try:
            rows = await reading(socket_counts.read_others)()
        except Exception:
            # What this process holds decides meanwhile.
            self._others = Counter()
            raise
        finally:
            self._heard.set()
        now = self._clock()
        others: Counter[str] = Counter()
        seen: dict[uuid.UUID, tuple[datetime, float]] = {}
        dead = []
        for process, written_at, counts in rows:
            known = self._seen.get(process)
            since = known[1] if known is not None and known[0] == written_at else now
            seen[process] = (written_at, since)
            if now - since > DEAD_AFTER_S:
                dead.append((process, written_at))
            else:
                others.update(counts)
        self._seen, self._others = seen, others
        if dead:
            await reading(socket_counts.forget)(dead)

    async def _write(self) -> None:
        own = dict(self._own)
        now = self._clock()
        if own == self._written and (not own or now - self._written_at < REWRITE_AFTER_S):
            return
        await reading(socket_counts.write)(own)
        self._written, self._written_at = own, now


def most(key: str) -> int:
    """Return how many places there are for sockets of `key`."""
    kind = key.partition(":")[0]
    limits = {
        ALL: settings.STEERSMAN_SOCKETS_IN_ALL,
        "user": settings.STEERSMAN_SOCKETS_PER_USER,
        "link": settings.STEERSMAN_SOCKETS_PER_LINK,
    }
    return int(limits[kind])


def place_of(grant: Grant, viewer: Viewer) -> str:
    """Return the key under which a viewer's sockets are counted."""
    if viewer.is_guest and grant.token_id is not None:
        return f"link:{grant.token_id}"
    return f"user:{grant.user_id}"
