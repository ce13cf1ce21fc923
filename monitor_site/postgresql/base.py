"""Django's PostgreSQL engine, with a pool that reopens all its connections when one of them turns out to be useless.

A connection may become useless while it is open: the server was made read-only, or became a standby. Such a connection
looks healthy, and every write through it fails for as long as it stays in the pool. The same is true for all
connections that were opened before it failed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from django.db.utils import DatabaseErrorWrapper
from django.utils.functional import cached_property
from psycopg_pool import ConnectionPool, PoolTimeout

# SQLSTATE (PostgreSQL, appendix A): a read-only session; a server that shuts down, has crashed or starts; a database
# that was dropped; a session that was idle for too long.
SPENT_STATES = ("25006", "57P01", "57P02", "57P03", "57P04", "57P05")
# The minimum interval between renewals: while a server stays read-only, every write fails.
RENEWED_EVERY_S = 1.0
# The pool waits longer and longer between attempts to connect, and gives up after this; a new request starts again.
RECONNECT_TIMEOUT_S = 0.25


class RenewedPool(ConnectionPool[Any]):
    """A pool whose `renew` closes all connections: idle ones now, and those in use when they are returned."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            check=self._look_at,
            reconnect_timeout=RECONNECT_TIMEOUT_S,
            reconnect_failed=lambda _: self._try_again(),
            **options,
        )
        self._renewing = threading.Lock()
        self._renewed_at = -RENEWED_EVERY_S

    def renew(self) -> None:
        with self._renewing:
            now = time.monotonic()
            if now - self._renewed_at < RENEWED_EVERY_S:
                return
            self._renewed_at = now
        self.drain()

    def _look_at(self, connection: Any) -> None:
        """Raise `psycopg.Error` if a connection was closed.

        All others then were too, and need not be tried one by one.
        """
        try:
            self.check_connection(connection)
        except psycopg.Error:
            self.renew()
            raise

    def _try_again(self) -> None:
        """Try to connect for the waiting requests; a pool that has given up only tries again for a new request."""
        if self.get_stats().get("requests_waiting"):
            with suppress(PoolTimeout):
                self.putconn(self.getconn(timeout=RECONNECT_TIMEOUT_S))


class NoticesSpentConnections(DatabaseErrorWrapper):
    """Renews the pool after an error of the connection, but not of a statement."""

    wrapper: DatabaseWrapper

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, psycopg.Error) and error.sqlstate in SPENT_STATES and self.wrapper.pool:
            self.wrapper.pool.renew()
        super().__exit__(kind, error, traceback)


class DatabaseWrapper(base.DatabaseWrapper):
    _connection_pools: dict[str, RenewedPool]
    _configure_connection: Callable[[Any], bool]

    @property
    def pool(self) -> RenewedPool | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if not options:
            return None
        pools = self._connection_pools
        if self.alias not in pools:
            made = RenewedPool(
                kwargs=self.get_connection_params() | {"autocommit": True},
                open=False,  # the first request for a connection opens it
                configure=self._configure_connection,
                **options,
            )
            # If several threads create one, the first one is used.
            pools.setdefault(self.alias, made)
        return pools[self.alias]

    @cached_property
    def wrap_database_errors(self) -> NoticesSpentConnections:
        return NoticesSpentConnections(self)
