"""Exchanges between web processes the places that their sockets take, and the watchers of each run.

Each process writes its own places and watchers into a row and reads those of the others, at most twice per second and
only while it has sockets. Handshakes are checked in memory, against the current places of this process and the last
rows of the others: processes that fill up in the same half second may admit a few sockets too many.

A row is a lease. The row of a killed process counts until `DEAD_AFTER_S` after its last writing.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from runs.access import socket_counts
from runs.access.limiter import Clock
from runs.access.socket_counts import Holding, ProcessRow
from runs.live.database_reads import reading
from runs.live.presence.audience import Audience
from runs.live.presence.places import Places
from runs.outage.answers import noted_outage

logger = logging.getLogger(__name__)

EXCHANGE_INTERVAL_S = 0.5
# A process writes its row this often even if nothing has changed, as a heartbeat.
REWRITE_AFTER_S = 4.0
DEAD_AFTER_S = 15.0

Rows: TypeAlias = list[ProcessRow]


class Leases:
    """Finds out which processes live, from the rows that are read again and again."""

    def __init__(self) -> None:
        # The last beat of each process, and when it was read by our clock.
        self._seen: dict[uuid.UUID, tuple[int, float]] = {}

    def divide(self, rows: Iterable[ProcessRow], now: float, *, is_blind: bool) -> tuple[Rows, Rows]:
        """Return the rows of living and of dead processes. `is_blind`: the rows could not be read until now."""
        seen: dict[uuid.UUID, tuple[int, float]] = {}
        living: Rows = []
        dead: Rows = []
        for row in rows:
            known = self._seen.get(row.process)
            if is_blind:
                # While no process could write, an old row does not mean a dead process.
                since = now
            elif known is not None and known[0] == row.beat:
                since = known[1]
            else:
                # The age is by the database's clock, like all times in rows: the process may have died long ago.
                since = now - max(0.0, row.age_s)
            seen[row.process] = (row.beat, since)
            (dead if now - since > DEAD_AFTER_S else living).append(row)
        self._seen = seen
        return living, dead


class Exchange:
    """Writes the places and watchers of the sockets of one event loop, and reads those of other processes.

    `on_news` is called after each exchange.
    """

    def __init__(self, on_news: Callable[[], None] = lambda: None, clock: Clock = time.monotonic) -> None:
        self.places = Places()
        self.audience = Audience()
        self._on_news = on_news
        self._clock = clock
        self._leases = Leases()
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
        # After a pause, the first socket must not be checked against old rows of the others.
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
            except Exception as error:  # an unavailable database may answer the next time
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
            # Meanwhile only the places of this process count. The last known watchers of the others are still reported.
            self.places.others = Counter()
            raise
        finally:
            self._heard.set()
        living, dead = self._leases.divide(rows, self._clock(), is_blind=self._blind)
        self.places.others = sum((Counter(row.holding.counts) for row in living), Counter())
        self.audience.others = [row.holding.watchers for row in living]
        if dead:
            await reading(socket_counts.forget)([(row.process, row.beat) for row in dead])

    async def _write(self) -> None:
        own = Holding(dict(self.places.own), self.audience.own())
        now = self._clock()
        if own == self._written and (not own.counts or now - self._written_at < REWRITE_AFTER_S):
            return
        await reading(socket_counts.write)(own)
        self._written, self._written_at = own, now
