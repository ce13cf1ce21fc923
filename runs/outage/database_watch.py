"""Tracks whether the database answers this process: it is marked as unavailable at a failure, and polled until it is
back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import Error, connection
from django.db.migrations.recorder import MigrationRecorder

from runs.outage.shared_question import SharedQuestion

logger = logging.getLogger(__name__)

# If a request takes longer, the database is polled to see whether it still answers.
LOOK_TIMEOUT_S = 0.8
RETRY_S = 0.25


class DatabaseWatch:
    """Tracks whether the database is unavailable. `ask` sends it any query, and raises if that fails.

    Safe to use from any thread.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._unavailable_since: float | None = None
        self._question = SharedQuestion(ask, "database-watch")

    @property
    def is_unavailable(self) -> bool:
        return self._unavailable_since is not None

    @property
    def unavailable_since_s(self) -> float | None:
        """Since when the database is unavailable, by `time.monotonic`; None if it is available."""
        return self._unavailable_since

    def note_unavailable(self, error: object) -> None:
        """Mark the database as unavailable until it answers. Logs the first of several failures."""
        with self._lock:
            if self._unavailable_since is not None:
                return
            self._unavailable_since = time.monotonic()
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        checked = "file and its folder" if connection.vendor == "sqlite" else "server"
        logger.warning(
            "the database does not answer (%s): check its %s. Trainings continue, and pages show an error until it "
            "answers",
            said,
            checked,
        )
        threading.Thread(target=self._wait_until_back, name="database-watch", daemon=True).start()

    async def answers(self) -> bool:
        """Query the database; return whether it answers within `LOOK_TIMEOUT_S`, and mark it as unavailable if it does
        not.
        """
        try:
            await self._question.answer(LOOK_TIMEOUT_S)
        except TimeoutError:
            self.note_unavailable(f"no answer within {LOOK_TIMEOUT_S} s")
        except Error as error:
            self.note_unavailable(error)
        return not self.is_unavailable

    def _wait_until_back(self) -> None:
        while True:
            try:
                self._ask()
                break
            except Exception:  # any exception: it is not back yet
                time.sleep(RETRY_S)
        with self._lock:
            assert self._unavailable_since is not None
            unavailable_s, self._unavailable_since = time.monotonic() - self._unavailable_since, None
        logger.warning("the database is back after %.1f s", unavailable_s)


def ask_database() -> None:
    """Read one row. Raises the errors of the database."""
    try:
        # Reads a table, because SQLite answers `SELECT 1` without its file.
        MigrationRecorder(connection).migration_qs.first()
    finally:
        connection.close()


database_watch = DatabaseWatch(ask_database)
