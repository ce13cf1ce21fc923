"""What web processes tell each other of their sockets: places that are taken, and who watches which run.

Each process writes what it holds into a row and reads what the others hold, at most twice a second and only while it
has sockets. A handshake is judged in memory, by what this process holds now and what the others wrote last: processes
that fill up in the same half second may let in a few too many.

A row is a lease. That of a process which was killed counts for `DEAD_AFTER_S` after it was written.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable

from runs.access import socket_counts
from runs.access.limiter import Clock
from runs.access.socket_counts import Holding
from runs.live.database_reads import reading
from runs.live.presence.audience import Audience
from runs.live.presence.places import Places
from runs.outage.answers import noted_outage

logger = logging.getLogger(__name__)

EXCHANGE_INTERVAL_S = 0.5
# So often a process that lives writes its row, though nothing changed.
REWRITE_AFTER_S = 4.0
DEAD_AFTER_S = 15.0


class Exchange:
    """Tells what the sockets of one event loop hold, and keeps what those of other processes do.

    `on_news` is called after each exchange.
    """

    def __init__(self, on_news: Callable[[], None] = lambda: None, clock: Clock = time.monotonic) -> None:
        self.places = Places()
        self.audience = Audience()
        self._on_news = on_news
        self._clock = clock
        # Of each other process: its last beat, and when that was written, by our clock.
        self._seen: dict[uuid.UUID, tuple[int, float]] = {}
        self._written = Holding()
        self._written_at = self._exchanged_at = float("-inf")
        self._exchanging: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._blind = False

    async def take_place(self, key: str) -> bool:
        """Take a place of `key` and return True; return False if all are taken."""
        if self._exchanging is None:
            if self._clock() - self._exchanged_at > 2 * EXCHANGE_INTERVAL_S:
                self._heard.clear()
            self._exchanging = asyncio.create_task(self._exchange_forever())
        # The first socket for a while must not be judged by what the others held long ago.
        await self._heard.wait()
        return self.places.take(key)

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
                    logger.exception("the portal processes could not exchange their lists of viewers; trying again")
                self._blind = True
            try:
                self._on_news()
            except Exception:
                logger.exception("the list of people who watch a run could not be sent to its viewers")
            if not self.places.own and (self._blind or not self._written.counts):
                self._exchanging = None
                return

    async def _read(self) -> None:
        try:
            rows = await reading(socket_counts.read_others)()
        except Exception:
            # What this process holds decides meanwhile; who watched by the others is told on.
            self.places.others = Counter()
            raise
        finally:
            self._heard.set()
        now = self._clock()
        seen: dict[uuid.UUID, tuple[int, float]] = {}
        living, dead = [], []
        for row in rows:
            known = self._seen.get(row.process)
            if self._blind:
                # While nobody could write, silence was no evidence of death.
                since = now
            elif known is not None and known[0] == row.beat:
                since = known[1]
            else:
                # By the database's clock, which all rows are written by: its process may have died long before.
                since = now - max(0.0, row.age_s)
            seen[row.process] = (row.beat, since)
            if now - since > DEAD_AFTER_S:
                dead.append((row.process, row.beat))
            else:
                living.append(row.holding)
        self._seen = seen
        self.places.others = sum((Counter(each.counts) for each in living), Counter())
        self.audience.others = [each.watchers for each in living]
        if dead:
            await reading(socket_counts.forget)(dead)

    async def _write(self) -> None:
        own = Holding(dict(self.places.own), self.audience.own())
        now = self._clock()
        if own == self._written and (not own.counts or now - self._written_at < REWRITE_AFTER_S):
            return
        await reading(socket_counts.write)(own)
        self._written, self._written_at = own, now
