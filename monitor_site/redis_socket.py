"""The socket of the embedded Redis-protocol server, in a short private folder, one per data folder.

Does not import Django. The path of a Unix socket is limited to 107 bytes, so it cannot be inside the data folder. Its
name can be guessed, and another user could create it first and answer instead of the server. Therefore the folder, the
socket and the listening process are checked at every connection.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

# struct ucred of unix(7): process, user, group.
CREDENTIALS = struct.Struct("3i")


def socket_path(data: Path) -> Path:
    """Return the socket of the embedded server that belongs to the data folder `data`."""
    digest = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"steersman-{os.getuid()}-{digest}" / "redis.sock"


def socket_url(path: Path) -> str:
    """Return the URL of a socket, with special characters quoted."""
    return f"unix://{quote(str(path))}"


def is_embedded(url: str, data: Path) -> bool:
    """Return whether a URL is that of the embedded server of the data folder `data`."""
    return url == socket_url(socket_path(data))


def private_folder(folder: Path) -> Path:
    """Create `folder` with mode 0700; raise `PermissionError` if another user owns it or has access."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Raise `PermissionError` if `folder` is a link, or another user owns it or has access."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} must be a folder that only you can enter: remove it and try again")


def check_socket(path: Path) -> None:
    """Raise `PermissionError` if the socket or its folder is not our own, `OSError` if it does not exist.

    Call it before connecting; after connecting, `check_peer` checks the listening process.
    """
    check_folder(path.parent)
    found = path.lstat()
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{path} is not a socket, or belongs to another user: remove it and try again")


def check_peer(connected: Any) -> None:
    """Raise `PermissionError` if the process at the other end of a connected socket belongs to another user (Linux)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    _, user, _ = CREDENTIALS.unpack(found)
    if user != os.getuid():
        raise PermissionError(
            f"a process of user {user} listens on the socket of the embedded server: end that process, then start again"
        )
