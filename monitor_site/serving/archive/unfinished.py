"""The marks of an unfinished restore, which show the next restore what is already in place.

They are a file in the data folder, which exists from before the first file is put in place until the end, and a table
in the database. On PostgreSQL the table is created in the empty database, before any row is loaded; on SQLite it comes
with the rows, which replace the whole file. The transaction that ends the restore removes it. A database with the table
therefore only has rows of that restore, and a database without it has either none or all of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.db import connection, transaction

from monitor_site.serving.archive.database import UNFINISHED_TABLE as TABLE
from monitor_site.serving.archive.database import engine
from monitor_site.serving.archive.manifest import Manifest
from steersman.files.data_folder import UNFINISHED_RESTORE
from steersman.files.private import write_private

LARGEST_TOKEN = 32
DJANGO_TABLE = "django_migrations"


@dataclass(frozen=True, slots=True)
class Begun:
    """A restore in progress, as recorded in its file. `ending` means that its last transaction had begun."""

    made_at: str = ""
    host: str = ""
    runs: int = 0
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    ending: bool = False

    def is_of(self, manifest: Manifest) -> bool:
        """Return whether it restores the backup with this manifest."""
        return (self.made_at, self.host, self.runs) == (manifest.made_at, manifest.host, manifest.runs)


def begun_of(manifest: Manifest) -> Begun:
    """Return a new restore of a backup."""
    return Begun(made_at=manifest.made_at, host=manifest.host, runs=manifest.runs)


def read_begun(data: Path) -> Begun | None:
    """Return the unfinished restore in a data folder, None if there is none."""
    try:
        text = (data / UNFINISHED_RESTORE).read_bytes()
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(text)
        return Begun(
            made_at=str(fields["made_at"]), host=str(fields["host"]), runs=int(fields["runs"]),
            token=str(fields["token"]), ending=fields["ending"] is True,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError):
        # From an earlier version, whose rows have no mark, so no token matches.
        return Begun()


def write_begun(data: Path, begun: Begun) -> None:
    """Write the file of a restore, completely or not at all."""
    target = data / UNFINISHED_RESTORE
    temporary = target.with_name(f"{target.name}.tmp")
    write_private(temporary, json.dumps(asdict(begun)))
    os.replace(temporary, target)


def forget_begun(data: Path) -> None:
    (data / UNFINISHED_RESTORE).unlink(missing_ok=True)


def token_in_database() -> str:
    """Return the token of the unfinished restore in this database, "" if there is none."""
    with connection.cursor() as cursor:
        if TABLE not in connection.introspection.table_names(cursor):
            return ""
        cursor.execute(f"SELECT token FROM {TABLE}")
        row = cursor.fetchone()
    return str(row[0]) if row else ""


def mark(begun: Begun, snapshot: Path) -> None:
    """Create the table with the token where the rows will be.

    Drop tables that are empty or from an interrupted restore.
    """
    if engine() == "sqlite":
        with closing(sqlite3.connect(snapshot)) as taken, taken:
            taken.execute(f"CREATE TABLE {TABLE} (token VARCHAR({LARGEST_TOKEN}) PRIMARY KEY)")
            taken.execute(f"INSERT INTO {TABLE} VALUES (?)", [begun.token])
        return
    known = connection.introspection.django_table_names(only_existing=True, include_views=False)
    with transaction.atomic(), connection.cursor() as cursor:
        # The tables of a newer version are unknown to the backup that replaces them.
        for table in (*known, DJANGO_TABLE, TABLE):
            cursor.execute(f"DROP TABLE IF EXISTS {connection.ops.quote_name(table)} CASCADE")
        cursor.execute(f"CREATE TABLE {TABLE} (token VARCHAR({LARGEST_TOKEN}) PRIMARY KEY)")
        cursor.execute(f"INSERT INTO {TABLE} VALUES (%s)", [begun.token])


def unmark() -> None:
    """Remove the table. Call in the transaction that ends the restore."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {TABLE}")
