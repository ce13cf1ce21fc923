"""Moves the SQLite file away for a while, as an administrator may do by mistake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.stack import Stack


@contextmanager
def database_file_taken_away(stack: Stack) -> Iterator[None]:
    """Move the file and those beside it away, and back at the end; do nothing if there is none, as on PostgreSQL."""
    path = stack.data / "steersman.sqlite3"
    ends = [end for end in ("", "-wal", "-shm") if path.with_name(path.name + end).exists()]
    for end in ends:
        path.with_name(path.name + end).rename(path.with_name(f"away{end}"))
    yield
    for end in ends:
        path.with_name(f"away{end}").rename(path.with_name(path.name + end))
