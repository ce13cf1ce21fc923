"""The identity of the database file, which may be replaced while this process runs."""

from __future__ import annotations

from pathlib import Path

from django.db import connection

from steersman.files.private import FileIdentity, identity_of


def database_file() -> FileIdentity | None:
    """Return the identity of the SQLite file, None if there is none, as on PostgreSQL."""
    return identity_of(Path(connection.settings_dict["NAME"])) if connection.vendor == "sqlite" else None
