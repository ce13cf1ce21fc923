"""Whether the database accepts a supervisor's rows, and whether it is still the one that the supervisor opened."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from django.db import connection

from steersman.files.private import FileIdentity, identity_of
from steersman.messages.errors import one_line
from steersman.messages.link import RecordSideClosed

logger = logging.getLogger(__name__)


class DatabaseReplaced(RecordSideClosed):
    """The database file was replaced by another one, which does not have this process's rows of the run."""

    def __init__(self, run_id: int) -> None:
        super().__init__(
            "The database file was replaced: this supervisor no longer stores anything. A training that still runs "
            f"continues, and its journal keeps what it logs: start `manage.py train --run-id {run_id}`, or `manage.py "
            "watch`, to store that in the new file."
        )


class DatabaseState:
    """Logs the beginning and the end of a time in which nothing can be stored."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._path = Path(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else None
        self._opened = self._identity()
        self._unavailable_since: float | None = None

    def look(self) -> None:
        """Raise `DatabaseReplaced` if another file is in its place, `OSError` if there is none."""
        found = self._identity()
        if self._path is not None and found is None:
            raise FileNotFoundError(f"{self._path.name} was deleted or moved")
        if found != self._opened:
            raise DatabaseReplaced(self._run_id)

    def note_unavailable(self, error: Exception, meanwhile: str) -> None:
        if self._unavailable_since is None:
            self._unavailable_since = time.monotonic()
            logger.warning(
                "the database is unavailable, so nothing can be stored now (%s): %s", one_line(error), meanwhile
            )

    def note_available(self) -> None:
        if self._unavailable_since is not None:
            unavailable_s, self._unavailable_since = time.monotonic() - self._unavailable_since, None
            logger.warning("the database is back: nothing could be stored for %.1f s", unavailable_s)

    def _identity(self) -> FileIdentity | None:
        return identity_of(self._path) if self._path is not None else None
