"""Kinds of database errors: unavailable, busy, or refused data."""

from __future__ import annotations

import re

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

# Classes of SQLSTATE (PostgreSQL, appendix A) about the data of a statement: data exceptions, violated constraints,
# limits of the program such as the width of an index.
REFUSAL_CLASSES = ("22", "23", "54")
# Classes about the server, its sessions and locks, or about another version of the schema: no value is the cause, so
# none may be quarantined.
AWAY_CLASSES = ("08", "25", "40", "42", "53", "55", "57", "58", "XX")
# Messages of SQLite and PostgreSQL.
OLD_TABLES = re.compile(r"no such (table|column)|(relation|column) .* does not exist|has no column")
BUSY = re.compile(r"database (table )?is locked|lock timeout")
DAMAGED = re.compile(r"disk image is malformed|file is not a database")


def is_refusal(error: BaseException) -> bool:
    """Return whether an error is about the values to store, so that a retry would fail again.

    Exceptions that do not come from the database are about the values too: a number that does not fit into a column, a
    text that cannot be encoded, a missing field.
    """
    if not isinstance(error, (DatabaseError, InterfaceError)):
        # A full disk, missing memory and a deleted row do not depend on the values either.
        return isinstance(error, Exception) and not isinstance(error, (OSError, MemoryError, ObjectDoesNotExist))
    state = sqlstate(error)
    if state.startswith(REFUSAL_CLASSES):
        return True
    if state.startswith(AWAY_CLASSES):
        return False
    if type(error) is DatabaseError:
        # SQLite has no class of its own for a damaged file, or a file that is no database.
        return False
    return isinstance(error, (DataError, IntegrityError)) or not isinstance(error, (OperationalError, InterfaceError))


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of a PostgreSQL error, "" if there is none (SQLite, a broken connection)."""
    return str(getattr(error.__cause__, "sqlstate", None) or getattr(error, "sqlstate", None) or "")
