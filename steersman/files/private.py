"""Files and folders for their owner only, whatever the umask and the mode of the parent folder are.

The modes are set at creation, never corrected afterwards, so that others cannot open a file in between. The umask is
not changed, because the files of a person's own script are up to that person. Standard library only.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO, cast

FILE_MODE = 0o600
FOLDER_MODE = 0o700
OF_OTHERS = 0o077


# Device and inode: the identity of a file, independent of its name.
FileIdentity = tuple[int, int]


def identity_of(path: Path) -> FileIdentity | None:
    """Return the identity of the file at `path`, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make_private(folder: Path) -> Path:
    """Create `folder` and its missing parents with mode 0700; an existing folder stays unchanged."""
    # `mkdir(parents=True)` would create the parents with the mode that the umask leaves.
    if not folder.parent.is_dir():
        make_private(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return folder


def open_private(path: Path, mode: str) -> BinaryIO:
    """Open a file for writing ("wb", "xb" or "ab"); a new file gets mode 0600."""
    # The caller closes it.
    return cast(BinaryIO, open(path, mode, opener=_private))  # noqa: SIM115


def append_whole(path: Path, data: bytes) -> None:
    """Append `data` to a file, which is created with mode 0600 if it does not exist.

    Raises `OSError` if the disk does not take all of it; the file then has its previous content.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    try:
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            if os.fstat(descriptor).st_size > size:
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Write a text into a file that is created with mode 0600."""
    with open_private(path, "wb") as file:
        file.write(text.encode())


def make_private_file(path: Path) -> None:
    """Create an empty file with mode 0600 if there is none; remove the access of others to an existing one of ours.

    An existing file is never opened: closing it would release the locks that SQLite holds on it in this process.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileExistsError:
        narrow(path)


def narrow(path: Path) -> bool:
    """Remove the access of others to a file or folder of ours; return whether they had any."""
    try:
        found = path.stat()
        if found.st_uid != os.getuid() or not found.st_mode & OF_OTHERS:
            return False
        path.chmod(found.st_mode & 0o777 & ~OF_OTHERS)
    except OSError:
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
