"""Django's SQLite engine, with a database file that only its owner can open, and that may be replaced.

SQLite creates the file with the umask, and its -wal and -shm with the mode of the file. A connection continues to use
the file that it has opened even if that is deleted: later writes are lost.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, ClassVar

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from steersman.files.private import FileIdentity, identity_of, make_private_file, narrow

logger = logging.getLogger(__name__)
BESIDE = ("-wal", "-shm", "-journal")


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to a file of mode 0600, whatever the umask of the process that creates it."""

    # Files that this process has opened: a missing one was removed, and must not be created again.
    _known: ClassVar[set[Path]] = set()
    _path: Path | None = None
    _opened: FileIdentity | None = None
    init_commands: list[str]

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        name = os.fspath(conn_params["database"])
        self._path = None if name.startswith(("file:", ":memory:")) else Path(name)
        if self._path is None:
            return super().get_new_connection(conn_params)
        if self._path in self._known and not self._path.exists():
            raise OperationalError(
                f"unable to open database file: {self._path} was deleted or moved; put it back, or restore a backup"
            )
        self._close_to_others(self._path)
        if not self._path.exists() or not self._path.stat().st_size:
            # Before anything else is in the file. For a file with tables it would wait for the writers' lock.
            self.init_commands = ["PRAGMA auto_vacuum=INCREMENTAL", *self.init_commands]
        connection = super().get_new_connection(conn_params)
        self._opened = identity_of(self._path)
        self._known.add(self._path)
        return connection

    def ensure_connection(self) -> None:
        """Open a connection if there is none, or if its file was deleted or replaced."""
        if self.connection is not None and self._path is not None and identity_of(self._path) != self._opened:
            if self.in_atomic_block:
                raise OperationalError("the database file was deleted or replaced in the middle of a transaction")
            self.close()
        super().ensure_connection()

    def _close_to_others(self, path: Path) -> None:
        if any([narrow(path), *(narrow(path.with_name(path.name + end)) for end in BESIDE)]):
            logger.warning("%s was readable by other users of this host: its mode was changed to 0600", path.name)
            return
        try:
            make_private_file(path)
        except OSError:
            # SQLite's own message says what is wrong with the path.
            return
