"""Django's SQLite, with a database file that nobody but its owner may open.

SQLite makes the file with the umask, and its -wal and -shm with the mode of the file.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base

from steersman.files.private import make_private_file, narrow

logger = logging.getLogger(__name__)
BESIDE = ("-wal", "-shm", "-journal")


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to a file of mode 0600, whoever makes it and with which umask."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        name = os.fspath(conn_params["database"])
        if not name.startswith(("file:", ":memory:")):
            self._close_to_others(Path(name))
        return super().get_new_connection(conn_params)

    def _close_to_others(self, path: Path) -> None:
        if any([narrow(path), *(narrow(path.with_name(path.name + end)) for end in BESIDE)]):
            logger.warning("%s could be opened by other users of this host: its mode is 0600 now", path.name)
            return
        try:
            make_private_file(path)
        except OSError:
            # SQLite tells what is wrong with the place, in its own words.
            return
