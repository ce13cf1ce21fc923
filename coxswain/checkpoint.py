"""Files that are either whole or not there: written beside, hashed on the way, then renamed.

Standard library only; knows nothing of what is in the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_atomically` put on disk."""

    size_bytes: int
    sha256: str


class _HashingFile:
    """Passes writes on and hashes them; offers no seek, so that what was hashed is what lies there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._file.write(data)
        self._hash.update(data)
        size = memoryview(data).nbytes
        self.size_bytes += size
        return size

    def flush(self) -> None:
        self._file.flush()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> Written:
    """Write the file `path` by `write(file)`, where `file` takes only `write` and `flush`.

    After return the file is whole and on disk under its name; after an exception, `OSError` for a full
    disk among them, what was there before is there still and nothing is left over.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            hashing = _HashingFile(file)
            write(cast(BinaryIO, hashing))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)
    return Written(size_bytes=hashing.size_bytes, sha256=hashing.sha256)


def verify(path: Path, sha256: str) -> bool:
    """Return whether the file `path` is there, readable, and has this SHA-256 (lower-case hexadecimal)."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                found.update(block)
    except OSError:
        return False
    return found.hexdigest() == sha256


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable: without this a power cut may bring the old name back."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
