"""Messages of `manage.py` instead of a traceback if settings, data folder or database are not usable."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, ProgrammingError

from runs.recording.database_errors import BUSY, OLD_TABLES
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED
from steersman.files.data_folder import UnfitFolder


def explained(error: BaseException) -> tuple[str, int] | None:
    """Return a sentence with the remedy, and the exit code; None for errors that need a traceback."""
    if isinstance(error, UnfitFolder):
        return str(error), EXIT_BAD_INPUT
    if isinstance(error, ImproperlyConfigured):
        return str(error), EXIT_BAD_INPUT
    # SQLite has no separate class for a damaged file, or a file that is no database.
    if not isinstance(error, (OperationalError, ProgrammingError)) and type(error) is not DatabaseError:
        return None
    said = (str(error).strip().splitlines() or [""])[0]
    if OLD_TABLES.search(said):
        return f"Tables are missing in the database ({said}): run manage.py migrate first.", EXIT_BAD_INPUT
    if BUSY.search(said):
        return f"The database is busy: another process writes to it ({said}). Try again in a moment.", EXIT_FAILED
    if isinstance(error, ProgrammingError):
        return None
    return f"The database does not answer ({said}): run manage.py doctor to find the cause.", EXIT_FAILED
