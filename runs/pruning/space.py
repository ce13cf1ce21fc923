"""Gives back to the disk what deleted rows leave free in a SQLite file. PostgreSQL does so by its autovacuum."""

from __future__ import annotations

import logging
import time

from django.db import Error as DatabaseError
from django.db import OperationalError, connection

logger = logging.getLogger(__name__)

# One portion holds the write lock for some milliseconds.
PAGES_A_PORTION = 256
BETWEEN_PORTIONS_S = 0.01
FEWEST_FREE_PAGES = 1024
# Other writers have precedence: a portion is tried again later.
WAITS_MS = 50
# The value of PRAGMA auto_vacuum in a file that can be made smaller piece by piece.
INCREMENTAL = 2


def free_pages() -> int:
    """Return how many pages of the SQLite file hold nothing and can be given back; 0 on other databases."""
    if connection.vendor != "sqlite" or _ask("auto_vacuum") != INCREMENTAL:
        return 0
    return _ask("freelist_count")


def give_back(within_s: float) -> int:
    """Make the SQLite file smaller in portions between which others write; return how many pages were given back.

    Stops after `within_s` seconds, or if few pages are free: new rows take those. Call outside a transaction.
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
                # The file is cut once the log is copied into it; readers and writers continue meanwhile.
                cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except DatabaseError as error:
        logger.info("the free space of the database file was not returned to the disk: %s", error)
    return given


def _give_back_a_portion() -> bool:
    """Give back some pages; return whether nobody wrote meanwhile."""
    script = f"PRAGMA busy_timeout={WAITS_MS}; PRAGMA incremental_vacuum({PAGES_A_PORTION})"
    usual_ms = int(1000 * connection.settings_dict["OPTIONS"].get("timeout", 5))
    try:
        with connection.wrap_database_errors:
            # As a script: a statement would be taken one step, which is one page.
            connection.connection.executescript(script)
    except OperationalError:
        return False
    finally:
        _ask(f"busy_timeout={usual_ms}")
    return True


def rebuild() -> None:
    """Write the SQLite file anew, without free pages and so that it can be made smaller piece by piece from then on.

    Writers wait meanwhile, and the disk must hold the file once more. Raises `DatabaseError` if somebody writes.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")
        cursor.execute("VACUUM")


def _ask(pragma: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}")
        return int(cursor.fetchone()[0])
