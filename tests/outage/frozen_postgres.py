"""Faults of a PostgreSQL server: frozen, as on a host that hangs; read-only; its connections ended."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.support import postgres
from tests.support.stack import ROOT, Stack, seed_stack

sys.path.insert(0, str(ROOT / "scripts"))

from postgres import PostgresError, Server, programs  # noqa: E402  a script, not a package


def skip_without_postgres() -> None:
    try:
        programs()
    except PostgresError as missing:
        pytest.skip(str(missing))


@contextmanager
def started_server() -> Iterator[Server]:
    """A separate server. Skips the test if PostgreSQL is not installed."""
    skip_without_postgres()
    with Server() as server:
        yield server


@contextmanager
def stack_on(server: Server, patch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A seeded stack on that server, with its portal and Redis started."""
    patch.setenv(postgres.VARIABLE, server.address)
    with Stack() as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        yield stack


def end_connections(stack: Stack) -> None:
    """End all connections to the stack's database, as an administrator does before taking it down."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    postgres.execute(stack.environment["STEERSMAN_DATABASE_URL"], ended + "pg_backend_pid()")


@contextmanager
def read_only(stack: Stack) -> Iterator[None]:
    """Make the stack's database read-only. Connections that are opened meanwhile stay read-only."""
    address = stack.environment["STEERSMAN_DATABASE_URL"]
    change = f"ALTER DATABASE {address.rpartition('/')[2]} "
    writable = f"{address}?options=-c%20default_transaction_read_only%3Doff"
    postgres.execute(address, change + "SET default_transaction_read_only = on")
    end_connections(stack)
    try:
        yield
    finally:
        postgres.execute(writable, change + "RESET default_transaction_read_only")


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    assert server.process is not None
    first = psutil.Process(server.process.pid)
    processes = [first, *first.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
