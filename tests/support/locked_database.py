"""Locks the database of a stack from outside, and finds the moments in which nobody else has locked it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.support import postgres
from tests.support.stack import Stack, wait_for


def can_write(stack: Stack, run_id: int, patience_s: float = 1.0) -> bool:
    """Return whether the database accepts a writer of this run now."""
    if "STEERSMAN_DATABASE_URL" in stack.environment:
        return postgres.is_free(stack.environment["STEERSMAN_DATABASE_URL"], run_id)
    path = stack.data / "steersman.sqlite3"
    with closing(sqlite3.connect(path, timeout=patience_s, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        database.execute("ROLLBACK")
    return True


def suspend_between_writes(stack: Stack, run_id: int, *pids: int) -> float:
    """Suspend the processes of a run while none of them holds a lock of the database; return when they were stopped.

    A lost host holds no locks, because its connections are closed.
    """

    def stopped_at() -> float:
        began = time.monotonic()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        if can_write(stack, run_id):
            return began
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        return 0.0

    return wait_for(stopped_at, "a moment in which the supervisor does not write")


@contextmanager
def write_locked(stack: Stack, run_id: int) -> Iterator[None]:
    """Block all other writers of the run, and on SQLite of the whole database, as if the database were away."""
    if "STEERSMAN_DATABASE_URL" in stack.environment:
        with postgres.locked(stack.environment["STEERSMAN_DATABASE_URL"], run_id):
            yield
        return
    with closing(sqlite3.connect(stack.data / "steersman.sqlite3", timeout=20, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("COMMIT")
