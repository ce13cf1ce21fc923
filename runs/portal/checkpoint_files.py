"""The files of a checkpoint as a stream of tar, all opened inside the run's folder before the first byte is sent.

The tar file is not compressed, so that its size is known in advance; weights hardly compress.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runs.copies.stored import StoredFile

BLOCK = 512
READ_BYTES = 1 << 18
# Two empty blocks end the archive.
END = bytes(2 * BLOCK)


class NotThere(Exception):
    """The files are not in the run's folder on this host."""


@dataclass(slots=True)
class Member:
    """One open file: its header in the archive, the file, and its size in bytes."""

    header: bytes
    file: IO[bytes]
    size: int

    @property
    def padding(self) -> int:
        return -self.size % BLOCK


@dataclass(slots=True)
class Archive:
    """The open files of a checkpoint. Use `stream`, or `close` it."""

    members: list[Member]

    @property
    def size(self) -> int:
        """Return the exact size of the stream in bytes."""
        return sum(len(member.header) + member.size + member.padding for member in self.members) + len(END)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the archive. Raises `OSError` if a file became shorter, which cuts the transfer."""
        try:
            for member in self.members:
                yield member.header
                left = member.size
                while left:
                    part = await asyncio.to_thread(member.file.read, min(READ_BYTES, left))
                    if not part:
                        raise OSError("a file of the checkpoint became shorter while it was sent")
                    left -= len(part)
                    yield part
                yield bytes(member.padding)
            yield END
        finally:
            self.close()

    def close(self) -> None:
        for member in self.members:
            member.file.close()


def open_archive(run_folder: Path, path: str, name: str) -> Archive:
    """Open the files of the checkpoint at `path` in the run's folder; the archive has them in a folder `name`.

    Files that are not regular, and paths that lead out of the run's folder, are refused. Raises `NotThere`.
    """
    if run_folder.is_symlink():
        raise NotThere
    try:
        inside = run_folder.resolve(strict=True)
        place = (inside / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise NotThere from None
    if inside not in place.parents:
        raise NotThere
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    members: list[Member] = []
    try:
        for file in files:
            member = _open(file, f"{name}/{file.name}")
            if member is not None:
                members.append(member)
    except OSError:
        Archive(members).close()
        raise NotThere from None
    if not members:
        raise NotThere
    return Archive(members)


def archive_of(files: Sequence[StoredFile], name: str, modified_at: int) -> Archive:
    """Return the archive of a pushed checkpoint; its files are in a folder `name`, with this time (Unix, in s)."""
    return Archive(
        [
            Member(_header(f"{name}/{each.name}", each.size_bytes, modified_at), each.file, each.size_bytes)
            for each in files
        ]
    )


def _open(path: Path, name: str) -> Member | None:
    if path.is_symlink() or not path.is_file():
        return None
    # A link may have replaced the file between the check and the opening.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    status = os.fstat(file.fileno())
    return Member(_header(name, status.st_size, int(status.st_mtime)), file, status.st_size)


def _header(name: str, size_bytes: int, modified_at: int) -> bytes:
    about = tarfile.TarInfo(name)
    about.size = size_bytes
    about.mtime = modified_at
    about.mode = 0o644
    return about.tobuf(tarfile.GNU_FORMAT)
