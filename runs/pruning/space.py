"""Returns the space of deleted rows in a SQLite file to the disk. PostgreSQL does so by its autovacuum."""

from __future__ import annotations

import logging
import time

from django.db import Error as DatabaseError
from django.db import OperationalError, connection

logger = logging.getLogger(__name__)

# A portion of this size holds the write lock for a few milliseconds.
PAGES_A_PORTION = 256
BETWEEN_PORTIONS_S = 0.01
FEWEST_FREE_PAGES = 1024
# Other writers go first: a portion is tried again later.
WAITS_MS = 50
# The value of PRAGMA auto_vacuum for a file that can be shrunk piece by piece.
INCREMENTAL = 2


def free_pages() -> int:
    """Return the number of free pages of the SQLite file that can be returned; 0 on other databases."""
    if connection.vendor != "sqlite" or _ask("auto_vacuum") != INCREMENTAL:
        return 0
    return _ask("freelist_count")


def give_back(within_s: float) -> int:
    """Shrink the SQLite file in portions, between which others can write; return the number of returned pages.

    Stops after `within_s` seconds, or when few pages are free, because new rows will use them. Call outside a
    transaction.
    """
    given = 0
    until = time.monotonic() + within_s
    try:
        while (free := free_pages()) > FEWEST_FREE_PAGES and time.monotonic() < until:
            if _give_back_a_portion():
                given += max(0, free - free_pages())
            time.sleep(BETWEEN_PORTIONS_S)
        if given:
            with connection.cursor() as cursor:
                # The file is truncated when the log is copied into it; readers and writers continue meanwhile.
                cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except DatabaseError as error:
        logger.info(
            "the free space of the database file could not be returned to the disk (%s); nothing is lost", error
        )
    return given


def _give_back_a_portion() -> bool:
    """Return some pages to the disk; return False if another process was writing."""
    script = f"PRAGMA busy_timeout={WAITS_MS}; PRAGMA incremental_vacuum({PAGES_A_PORTION})"
    usual_ms = int(1000 * connection.settings_dict["OPTIONS"].get("timeout", 5))
    try:
        with connection.wrap_database_errors:
            # As a script, because `execute` would run only one step of the statement, which is one page.
            connection.connection.executescript(script)
    except OperationalError:
        return False
    finally:
        _ask(f"busy_timeout={usual_ms}")
    return True


def rebuild() -> None:
    """Rewrite the SQLite file without free pages, so that it can be shrunk piece by piece from then on.

    Writers wait meanwhile, and the disk needs space for a second copy. Raises `DatabaseError` if another process
    writes.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
        cursor.execute("VACUUM")


def _ask(pragma: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}")
        return int(cursor.fetchone()[0])
