"""Sentences about database errors for a person who requested a page."""

from __future__ import annotations

import logging
import re
from enum import Enum

from django.db import Error, InterfaceError, OperationalError

from runs.recording.database_errors import BUSY, DAMAGED, OLD_TABLES, is_refusal, sqlstate

UNCHANGEABLE = re.compile(r"readonly database|database or disk is full")
# SQLSTATE (PostgreSQL, appendix A): read-only transaction, disk full.
UNCHANGEABLE_STATES = ("25006", "53100")
# Lock not available, serialization failure and deadlock, too many connections and other exhausted resources.
BUSY_STATES = ("55P03", "40001", "40P01", "53")
# Connection failures, a server that shuts down or starts, system errors.
AWAY_STATES = ("08", "57P", "58")
UNAVAILABLE = 503


class Outage(Enum):
    """Why the database did not execute a request, although the request is valid."""

    AWAY = "away"
    BUSY = "busy"
    UNCHANGEABLE = "unchangeable"


def outage_of(error: BaseException | None) -> Outage | None:
    """Return why `error` was raised, None if a retry would not help or it is not an error of the database."""
    if not isinstance(error, Error) or is_refusal(error):
        return None
    state = sqlstate(error)
    if state:
        if state.startswith(UNCHANGEABLE_STATES):
            return Outage.UNCHANGEABLE
        if state.startswith(BUSY_STATES):
            return Outage.BUSY
        return Outage.AWAY if state.startswith(AWAY_STATES) else None
    said = str(error)
    if OLD_TABLES.search(said):
        return None
    if UNCHANGEABLE.search(said):
        return Outage.UNCHANGEABLE
    if BUSY.search(said):
        return Outage.BUSY
    is_away = isinstance(error, (OperationalError, InterfaceError)) or DAMAGED.search(said)
    return Outage.AWAY if is_away else None


class WithoutOutages(logging.Filter):
    """Drops Django's log records about requests during an outage, because the outage itself was logged once."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", None) == UNAVAILABLE:
            return False
        return record.exc_info is None or outage_of(record.exc_info[1]) is None
