"""Reads of the database by sockets: on a few threads of their own, so that they neither wait for nor block pages."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from channels.db import database_sync_to_async

_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="hub")


def reading(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an awaitable of a function that only reads the database."""
    awaitable: Callable[..., Any] = database_sync_to_async(function, thread_sensitive=False, executor=_readers)
    return awaitable
