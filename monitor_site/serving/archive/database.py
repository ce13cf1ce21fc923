"""Snapshots of the database and their restoration, on SQLite and on PostgreSQL. Without the files of runs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from django.db import Error, connection, transaction

from monitor_site.serving.archive.manifest import ArchiveError
from monitor_site.serving.embedded_server import die_with_parent

# Tables with rows that `migrate` itself creates.
MADE_BY_MIGRATE = ("django_migrations", "django_content_type", "auth_permission")
# The table with the token of an unfinished restore.
UNFINISHED_TABLE = "steersman_unfinished_restore"
SQLITE_TIMEOUT_S = 30.0
SAID_CHARACTERS = 500

CHECKPOINTS = "SELECT run_id, path FROM runs_checkpoint ORDER BY id"
# The checkpoint at which a branch began has the path of attempt number 0.
ATTEMPTS = (
    "SELECT run_id, number, host FROM runs_attempt UNION ALL SELECT run_id, 0, host FROM runs_branch ORDER BY 1, 2"
)
POSITIONS = (
    'SELECT a.run_id, a.number, o.rank, o.segment, o."offset" FROM runs_journaloffset o '
    "JOIN runs_attempt a ON a.id = o.attempt_id WHERE a.ended_at IS NULL ORDER BY o.segment"
)
MIGRATIONS = "SELECT app, name FROM django_migrations ORDER BY id"
RUNS = "SELECT COUNT(*) FROM runs_run"


class _Cursor(Protocol):
    def execute(self, sql: str, /) -> Any: ...
    def fetchall(self) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files in the rows of a snapshot.

    `checkpoints` are (run, path in the run's folder), `attempts` (run, number, host). `positions` are (segment, offset)
    up to which the journals of open attempts were read, by (run, attempt, rank).
    """

    checkpoints: list[tuple[int, str]]
    attempts: list[tuple[int, int, str]]
    positions: dict[tuple[int, int, int], tuple[int, int]]
    migrations: list[str]
    runs: int


def engine() -> str:
    """Return "sqlite" or "postgresql"."""
    return connection.vendor


def take_snapshot(target: Path) -> Snapshot:
    """Write the database as of one moment to `target`; return the files in its rows. Trainings continue meanwhile.

    Raises `ArchiveError`.
    """
    if engine() == "sqlite":
        return _sqlite_snapshot(target)
    with transaction.atomic(), connection.cursor() as cursor:
        # One snapshot for both the program and the rows that are read here.
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot()")
        (name,) = cursor.fetchone()
        _run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={name}", f"--file={target}")
        return _listed(cursor)


def load_snapshot(source: Path) -> None:
    """Replace the rows of the database by those of a snapshot, all or none. Raises `ArchiveError`."""
    connection.close()
    if engine() == "sqlite":
        try:
            with closing(sqlite3.connect(source)) as taken, closing(_sqlite_database()) as database:
                taken.backup(database)
        except sqlite3.Error as error:
            raise ArchiveError(
                f"SQLite could not restore the database of the backup: {error}. "
                "Check the free disk space, or use another backup."
            ) from error
        return
    _run("pg_restore", "--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction",
         "--exit-on-error", str(source))  # fmt: skip


def filled_tables() -> list[str]:
    """Return the tables with rows, except those that `migrate` fills and the mark of a restore."""
    with connection.cursor() as cursor:
        found = []
        for table in sorted(connection.introspection.table_names(cursor)):
            if table not in (*MADE_BY_MIGRATE, UNFINISHED_TABLE):
                cursor.execute(f"SELECT 1 FROM {connection.ops.quote_name(table)} LIMIT 1")
                found += [table] * bool(cursor.fetchone())
    return found


def _sqlite_snapshot(target: Path) -> Snapshot:
    try:
        with closing(_sqlite_database()) as database, closing(sqlite3.connect(target)) as taken:
            database.backup(taken)
            # As one file, without a separate log.
            taken.execute("PRAGMA journal_mode=DELETE")
            return _listed(taken.cursor())
    except sqlite3.Error as error:
        raise ArchiveError(
            f"SQLite could not make a snapshot of the database: {error}. "
            "Check the free disk space, and run manage.py verify."
        ) from error


def _sqlite_database() -> sqlite3.Connection:
    return sqlite3.connect(str(connection.settings_dict["NAME"]), timeout=SQLITE_TIMEOUT_S)


def _listed(cursor: _Cursor) -> Snapshot:
    def rows(sql: str) -> list[Any]:
        cursor.execute(sql)
        return cursor.fetchall()

    return Snapshot(
        checkpoints=[(run, path) for run, path in rows(CHECKPOINTS)],
        attempts=[(run, number, host) for run, number, host in rows(ATTEMPTS)],
        positions={(run, number, rank): (segment, offset) for run, number, rank, segment, offset in rows(POSITIONS)},
        migrations=[f"{app}.{name}" for app, name in rows(MIGRATIONS)],
        runs=rows(RUNS)[0][0],
    )


def _run(program: str, *arguments: str) -> None:
    """Run a program of PostgreSQL on the portal's database."""
    found = shutil.which(program)
    if found is None:
        raise ArchiveError(f"{program} is not installed: install the PostgreSQL client programs of its version.")
    command = [found, *_where(), *arguments]
    # A program that continued alone would overwrite the rows of the next restore.
    done = subprocess.run(
        command, env=_with_password(), capture_output=True, text=True, check=False, preexec_fn=die_with_parent()
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[:SAID_CHARACTERS]
        raise ArchiveError(
            f"{program} failed: {said or f'exit code {done.returncode}'} (the server has version "
            f"{_server_version()}; {program} must not be older)."
        )


def _server_version() -> str:
    try:
        with connection.cursor():
            return str(connection.pg_version)  # type: ignore[attr-defined]
    except Error:
        # Only part of a sentence about another error; the transaction may be gone with its server.
        return "unknown"


def _where() -> list[str]:
    """Return the connection options of a program, without the password, which all users could read there."""
    settings = connection.settings_dict
    options = {"--host": settings["HOST"], "--port": settings["PORT"], "--username": settings["USER"]}
    return [*(f"{name}={value}" for name, value in options.items() if value), "--no-password",
            f"--dbname={settings['NAME']}"]  # fmt: skip


def _with_password() -> dict[str, str]:
    settings = connection.settings_dict
    variables = dict(os.environ)
    if settings["PASSWORD"]:
        variables["PGPASSWORD"] = str(settings["PASSWORD"])
    if settings["OPTIONS"].get("sslmode"):
        variables["PGSSLMODE"] = str(settings["OPTIONS"]["sslmode"])
    return variables
