"""A file of a pushed checkpoint as a stream, from any byte on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO

from runs.copies.folders import copy_folder, has_copy
from steersman.files.checkpoint import FILE_NAME

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

    file: BinaryIO
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
    """Open a file of a copy at `offset`. Raises `NoSuchFile` and `BehindEnd`."""
    if not FILE_NAME.fullmatch(name) or not has_copy(run_id, sha256):
        raise NoSuchFile(name)
    try:
        file = os.fdopen(os.open(copy_folder(run_id, sha256) / name, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise NoSuchFile(name) from error
    size = os.fstat(file.fileno()).st_size
    if offset > size:
        file.close()
        raise BehindEnd(size)
    file.seek(offset)
    return OpenFile(file, size - offset)
