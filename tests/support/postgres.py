"""Databases of the PostgreSQL server in STEERSMAN_TEST_POSTGRES, and access to them by SQL.

Does not import Django.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

VARIABLE = "STEERSMAN_TEST_POSTGRES"


def server() -> str | None:
    """Return the address of the server, or None if the tests run on SQLite."""
    return os.environ.get(VARIABLE)


def address_of(database: str) -> str:
    """Return the address of a database on that server."""
    return urlunsplit(urlsplit(os.environ[VARIABLE])._replace(path=f"/{database}"))


def create_database(name: str) -> str:
    """Create a database and return its address."""
    execute(os.environ[VARIABLE], f"CREATE DATABASE {name}")
    return address_of(name)


def drop_database(name: str) -> None:
    execute(os.environ[VARIABLE], f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def execute(address: str, sql: str, arguments: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
    """Run one statement with `?` for its arguments, as for SQLite, and return its rows.

    JSON columns are text, as in SQLite.
    """
    import psycopg
    from psycopg.rows import dict_row
    from psycopg.types.json import set_json_loads

    with psycopg.connect(address, autocommit=True, row_factory=dict_row) as connection:
        set_json_loads(lambda text: text if isinstance(text, str) else text.decode(), connection)
        query = sql.replace("%", "%%").replace("?", "%s") if arguments else sql
        cursor = connection.execute(query, arguments or None)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def locked(address: str, run_id: int) -> Iterator[None]:
    """Hold the lock of the run's row until the end of the context."""
    import psycopg

    with psycopg.connect(address) as connection:
        connection.execute("SELECT id FROM runs_run WHERE id = %s FOR UPDATE", (run_id,))
        yield


def is_free(address: str, run_id: int) -> bool:
    """Return whether the lock of the run's row is free."""
    import psycopg

    with psycopg.connect(address) as connection:
        try:
            connection.execute("SELECT id FROM runs_run WHERE id = %s FOR UPDATE NOWAIT", (run_id,))
        except psycopg.errors.LockNotAvailable:
            return False
    return True
