"""A PostgreSQL server that can be frozen, as a host that hangs does: connections stay, and nothing answers."""

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


@contextmanager
def started_server() -> Iterator[Server]:
    """A server of its own. Skips the test where PostgreSQL is not installed."""
    try:
        programs()
    except PostgresError as missing:
        pytest.skip(str(missing))
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
