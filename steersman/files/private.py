"""Files and folders for their owner alone, whatever the umask and the mode of the folder around them.

The modes are given when something is made, never corrected afterwards: others get no moment to open it. The umask
stays as it is, since files that a person's own script writes are that person's affair. Standard library only.
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
    """Return which file lies at `path`, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make_private(folder: Path) -> Path:
    """Make `folder`, and what is missing above it, with mode 0700; one that is there stays as it is."""
    # `mkdir(parents=True)` would make those above with the mode that the umask leaves.
    if not folder.parent.is_dir():
        make_private(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return folder


def open_private(path: Path, mode: str) -> BinaryIO:
    """Open a file to write ("wb", "xb" or "ab"); one that has to be made gets mode 0600."""
    # The caller closes it.
    return cast(BinaryIO, open(path, mode, opener=_private))  # noqa: SIM115


def append_whole(path: Path, data: bytes) -> None:
    """Append `data` to a file, which is made with mode 0600 if it is not there.

    Raises `OSError` if the disk does not take all of it; then the file holds what it held before.
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
    """Write a text into a file that is made with mode 0600."""
    with open_private(path, "wb") as file:
        file.write(text.encode())


def make_private_file(path: Path) -> None:
    """Make an empty file with mode 0600 if there is none; one of our own that others may open is closed to them.

    One that is there is never opened: closing it would free the locks that SQLite holds on it in this process.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
    except FileExistsError:
        narrow(path)


def narrow(path: Path) -> bool:
    """Take away what others may do with a file or folder of our own; return whether they could do anything."""
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
