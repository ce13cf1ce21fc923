"""Database queries of sockets and handshakes on a few separate threads, so that pages do not wait for them.

On SQLite these threads keep their connections, because opening one costs more than most queries. On PostgreSQL a pool
keeps them, and each query returns its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import Error, close_old_connections, connection

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="hub")
# Separate from the readers, because a writer may wait for a lock.
_writers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hub-writer")
# Many requests for tickets must not delay the check of who may still watch.
_answerers = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hub-answerer")
# In the process that records remote trainings. SQLite takes one writer at a time, and the pool of PostgreSQL has ten
# connections, of which detectors of alerts need some.
_storers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="storer")


def reading(function: Callable[Asked, Answer]) -> Callable[Asked, Awaitable[Answer]]:
    """Return an awaitable version of a function that only reads the database."""
    return _on(_readers, function)


def writing(function: Callable[Asked, Answer]) -> Callable[Asked, Awaitable[Answer]]:
    """Return an awaitable version of a function that writes. It may still run to its end after its caller was
    cancelled.
    """
    return _on(_writers, function)


def answering(function: Callable[Asked, Answer]) -> Callable[Asked, Awaitable[Answer]]:
    """Return an awaitable version of a function that answers requests which may come in large numbers."""
    return _on(_answerers, function)


def storing(function: Callable[Asked, Answer]) -> Callable[Asked, Awaitable[Answer]]:
    """Make an awaitable of a function that stores what training hosts report."""
    return _on(_storers, function)


def look_at_outcome(asked: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a future that was abandoned; the next caller asks again, and gets the error."""
    if not asked.cancelled():
        asked.exception()


def _on(executor: Executor, function: Callable[Asked, Answer]) -> Callable[Asked, Awaitable[Answer]]:
    async def ask(*arguments: Asked.args, **named: Asked.kwargs) -> Answer:
        task = partial(_with_connection, partial(function, *arguments, **named))
        return await asyncio.get_running_loop().run_in_executor(executor, task)

    return ask


def _with_connection(function: Callable[[], Answer]) -> Answer:
    if connection.vendor != "sqlite":
        try:
            return function()
        finally:
            close_old_connections()
    if connection.connection is None:
        # The function meets the same error, and may handle it.
        with suppress(Error), connection.wrap_database_errors:
            connection.connect()
            connection.close_at = None
    try:
        return function()
    except Error:
        # If anything is wrong with it, the next query opens a new one.
        connection.close()
        raise
