"""Kinds of database errors: unavailable, busy, or refused data."""

from __future__ import annotations

import re

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

# Classes of SQLSTATE (PostgreSQL, appendix A) that speak of the data of a statement: data exceptions, violated
# constraints, limits of the program such as the width of an index.
REFUSAL_CLASSES = ("22", "23", "54")
# And those that speak of the server, its sessions and locks, or of a schema that is another than ours: no value is the
# cause, and none is to be set aside for it.
AWAY_CLASSES = ("08", "25", "40", "42", "53", "55", "57", "58", "XX")
# As SQLite and PostgreSQL say it in words.
OLD_TABLES = re.compile(r"no such (table|column)|(relation|column) .* does not exist|has no column")
BUSY = re.compile(r"database (table )?is locked|lock timeout")


def is_refusal(error: BaseException) -> bool:
    """Return whether an error is about what was to be stored: trying the same again would fail again.

    Whatever is no error of the database comes from the values too: a number that has no place in a column, a text that
    cannot be encoded, a field that is missing.
    """
    if not isinstance(error, (DatabaseError, InterfaceError)):
        # A disk that is full, memory that is short and a row that was deleted are about no value either.
        return isinstance(error, Exception) and not isinstance(error, (OSError, MemoryError, ObjectDoesNotExist))
    state = sqlstate(error)
    if state.startswith(REFUSAL_CLASSES):
        return True
    if state.startswith(AWAY_CLASSES):
        return False
    return isinstance(error, (DataError, IntegrityError)) or not isinstance(error, (OperationalError, InterfaceError))


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error of PostgreSQL, "" if there is none (SQLite, a connection that broke)."""
    return str(getattr(error.__cause__, "sqlstate", None) or getattr(error, "sqlstate", None) or "")
