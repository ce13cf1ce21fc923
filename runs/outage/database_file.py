"""The identity of the database file, which may be replaced while this process runs."""

from __future__ import annotations

from pathlib import Path

from django.db import connection

from steersman.files.private import FileIdentity, identity_of


def database_path() -> Path | None:
    """Return the path of the SQLite file, None on PostgreSQL. Keep it: looking up the connection takes far longer."""
    return Path(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else None


def database_file() -> FileIdentity | None:
    """Return the identity of the SQLite file, None if there is none, as on PostgreSQL."""
    path = database_path()
    return identity_of(path) if path is not None else None
