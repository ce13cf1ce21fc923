"""Whether the database takes writes now. Nothing is written."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from django.db import connection

# Other writers hold the lock for milliseconds. A lock that lasts longer than this is not a report being stored.
PATIENCE_S = 0.1


def takes_writes() -> bool:
    """Return whether a report could be stored now.

    Only a SQLite file is locked as a whole: true on PostgreSQL, and for a caller that holds the lock itself.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return True
    name = os.fspath(connection.settings_dict["NAME"])
    if name.startswith(("file:", ":memory:")):
        return True
    try:
        # "rw" does not create a missing file.
        address = f"{Path(name).absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, timeout=PATIENCE_S, isolation_level=None, uri=True)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True
