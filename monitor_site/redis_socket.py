"""Where the embedded Redis-protocol server listens: a short private folder, one for each data folder.

Knows nothing of Django. A Unix socket path may have 107 bytes, so it cannot lie under the data folder.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path


def socket_path(data: Path) -> Path:
    """Return the socket of the embedded server that belongs to the data folder `data`."""
    digest = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"coxswain-{os.getuid()}-{digest}" / "redis.sock"


def private_folder(folder: Path) -> Path:
    """Make `folder` with mode 0700; raise `PermissionError` where somebody else owns it or may enter it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} must be a folder that only you can enter: remove it and try again")
    return folder
