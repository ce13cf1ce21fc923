"""A file of a pushed checkpoint as a stream, from any byte on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO

from runs.copies import stored

READ_BYTES = 1 << 18


class NoSuchFile(Exception):
    """The portal has no copy of the checkpoint, or the copy has no such file."""


class BehindEnd(Exception):
    """The file ends before the byte that was asked for. `size_bytes` is its size."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(size_bytes)
        self.size_bytes = size_bytes


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open file at its first byte to send; `size_bytes` are left from there. Use `stream` to the end."""

    file: IO[bytes]
    size_bytes: int

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the bytes. Raises `OSError` if the file became shorter, which cuts the transfer."""
        left = self.size_bytes
        with self.file:
            while left:
                part = await asyncio.to_thread(self.file.read, min(READ_BYTES, left))
                if not part:
                    raise OSError("a file of the checkpoint became shorter while it was sent")
                left -= len(part)
                yield part


def open_file(run_id: int, sha256: str, name: str, offset: int) -> OpenFile:
    """Open a file of a copy at `offset`. Raises `NoSuchFile`, `BehindEnd` and `StorageAway`."""
    if not stored.has_copy(run_id, sha256):
        raise NoSuchFile(name)
    try:
        found = stored.open_stored(run_id, sha256, name)
    except FileNotFoundError as error:
        raise NoSuchFile(name) from error
    if offset > found.size_bytes:
        found.file.close()
        raise BehindEnd(found.size_bytes)
    found.file.seek(offset)
    return OpenFile(found.file, found.size_bytes - offset)
