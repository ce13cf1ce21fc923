"""Reads for all connections of training hosts, twice per second in a few queries: permissions, viewers, commands."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Protocol

from runs.access import revocation, socket_counts
from runs.launches.grants import HostGrant, check_host_grants
from runs.live.database_reads import reading
from runs.live.exchange import Leases
from runs.outage.answers import noted_outage
from runs.recording import announcer, feed
from runs.recording.lifecycle import runs_with_open_commands
from trainer.remote_hosts.admission import REASONS

logger = logging.getLogger(__name__)

# Without the channel layer this alone must close a revoked connection within a second.
ROUND_INTERVAL_S = 0.5


class Guarded(Protocol):
    async def end(self, code: int, reason: str) -> None:
        """Close the connection and handle no more of its messages."""

    def look_for_commands(self) -> None:
        """Soon send the commands that wait."""


class Rounds:
    """The open connections of one event loop, each with its grant. Updates `feed.watched`."""

    def __init__(self) -> None:
        self._grants: dict[Guarded, HostGrant] = {}
        self._word = asyncio.Event()
        self._going: asyncio.Task[None] | None = None
        self._listens = False
        self._is_blind = False
        self._leases = Leases()

    def add(self, connection: Guarded, grant: HostGrant) -> None:
        self._grants[connection] = grant
        if not self._listens:
            self._listens = True
            loop = asyncio.get_running_loop()

            def wake(message: dict[str, Any]) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._word.set)

            announcer.current().listen(revocation.GROUP, wake)
        if self._going is None:
            self._going = asyncio.create_task(self._go())

    def remove(self, connection: Guarded) -> None:
        self._grants.pop(connection, None)
        if not self._grants and self._going is not None:
            self._going.cancel()
            self._going = None
            feed.watched.replace(None)

    async def _go(self) -> None:
        while True:
            try:
                async with asyncio.timeout(ROUND_INTERVAL_S):
                    await self._word.wait()
            except TimeoutError:
                pass
            self._word.clear()
            try:
                await self._check()
                feed.watched.replace(await self._watched_runs())
                await self._look_for_commands()
                self._is_blind = False
            except Exception as error:  # a database that is unavailable now may answer the next time
                if noted_outage(error) is None and not self._is_blind:
                    logger.exception("the connections of training hosts could not be checked; trying again")
                self._is_blind = True

    async def _check(self) -> None:
        known = dict(self._grants)
        found = await reading(check_host_grants)(set(known.values()))
        ending = [(connection, found[grant]) for connection, grant in known.items() if connection in self._grants]
        closing = [connection.end(code, REASONS[code]) for connection, code in ending if isinstance(code, int)]
        # Shielded: this task is cancelled with the last connection.
        await asyncio.shield(asyncio.gather(*closing, return_exceptions=True))

    async def _look_for_commands(self) -> None:
        """Wake the connections of runs with open commands, which the channel layer may not have announced."""
        known = dict(self._grants)
        found = await reading(runs_with_open_commands)({grant.run_id for grant in known.values()})
        for connection, grant in known.items():
            if grant.run_id in found:
                connection.look_for_commands()

    async def _watched_runs(self) -> frozenset[int]:
        """Return the runs whose pages are open in any portal."""
        rows = await reading(socket_counts.read_others)()
        living, _ = self._leases.divide(rows, time.monotonic(), is_blind=self._is_blind)
        return frozenset(run_id for row in living for run_id in row.holding.watchers)
