"""Limits the size of the files that a training prints into, by removing their middle.

While the training appends, the middle is returned to the disk as a hole: writers are not disturbed, no byte moves, and
positions in the file stay valid. Once no process appends, `without_hole` writes the rest into a plain file. No Django,
no torch.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, BinaryIO

from steersman.files.private import open_private

# A supervisor may not have read part of a burst yet. That part is at the end of the file, of which half of the bound is
# kept.
SMALLEST_BOUND_BYTES = 4 << 20
# The size that each file of an attempt keeps if the bound of its run leaves no room.
LEAST_KEPT_BYTES = 64 << 10
BLOCK_BYTES = 4096
COPIED_AT_ONCE = 1 << 20
# From fallocate(2).
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02
# Loaded once: it is the C library that this process already uses.
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def free_middle(path: Path, largest_bytes: int) -> int:
    """Free the middle of a file that takes more than `largest_bytes` of the disk; return its size in bytes.

    The first quarter of `largest_bytes` and the last half stay; a sentence replaces the rest. Returns 0 if the file is
    small enough. If this process is killed meanwhile, the first part and the last one are unchanged. Raises `OSError`
    if the file system cannot do it.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    if found.st_blocks * 512 <= largest_bytes:
        return 0
    start = largest_bytes // 4 // BLOCK_BYTES * BLOCK_BYTES
    end = (found.st_size - largest_bytes // 2) // BLOCK_BYTES * BLOCK_BYTES
    if end - start < 3 * BLOCK_BYTES:
        return 0
    with path.open("r+b", buffering=0) as file:
        _punch(file.fileno(), start + BLOCK_BYTES, end - start - 2 * BLOCK_BYTES)
        # On both sides of the hole, so that readers find it from the beginning and from the end.
        for place in (start, end - BLOCK_BYTES):
            os.pwrite(file.fileno(), _sentence(end - start).ljust(BLOCK_BYTES - 1) + b"\n", place)
    return end - start


def without_hole(path: Path) -> None:
    """Turn a file with a hole into a plain file: its first part, a sentence, and its last part.

    No process may append to it from now on. The old file stays until the new one is complete.
    """
    with path.open("rb") as file:
        if not has_hole(file):
            return
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open_private(new, "wb") as plain:
            copy_without_hole(file, plain, os.fstat(file.fileno()).st_size)
            plain.flush()
            os.fsync(plain.fileno())
    os.replace(new, path)


def has_hole(file: BinaryIO) -> bool:
    place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    try:
        return _hole(file.fileno()) is not None
    finally:
        # Searching for a hole moves the file position.
        os.lseek(file.fileno(), place, os.SEEK_SET)


def copy_without_hole(file: BinaryIO, target: IO[bytes], size: int) -> None:
    """Write the first `size` bytes of a file to `target`, with a sentence instead of its hole."""
    hole = _hole(file.fileno())
    if hole is None:
        _copy(file, target, 0, size)
        return
    # The blocks on both sides contain the sentence.
    first, behind = max(0, hole[0] - BLOCK_BYTES), hole[1] + BLOCK_BYTES
    _copy(file, target, 0, first)
    target.write(_sentence(behind - first))
    _copy(file, target, behind, size)


def bound_earlier(folders: Sequence[Path], largest_bytes: int) -> None:
    """Limit the consoles of ended attempts, the newest first, to `largest_bytes` together.

    If there is no room for an attempt, each of its files keeps LEAST_KEPT_BYTES.
    """
    left = largest_bytes
    for path in [path for folder in folders for path in sorted(folder.glob("console*.log"))]:
        without_hole(path)
        size = path.stat().st_size
        if size > max(left, LEAST_KEPT_BYTES):
            free_middle(path, LEAST_KEPT_BYTES)
            without_hole(path)
        left = max(0, left - path.stat().st_size)


def _sentence(left_out: int) -> bytes:
    return f"\n[{left_out} bytes of output were left out here]\n".encode()


def _hole(descriptor: int) -> tuple[int, int] | None:
    """Return where the first hole of a file begins and the last one ends, None if it has none."""
    size = os.fstat(descriptor).st_size
    begins = ends = os.lseek(descriptor, 0, os.SEEK_HOLE) if size else 0
    if begins >= size:
        return None
    following = begins
    while following < size:
        try:
            ends = os.lseek(descriptor, following, os.SEEK_DATA)
        except OSError:
            return begins, size
        following = os.lseek(descriptor, ends, os.SEEK_HOLE)
    return begins, ends


def _copy(source: BinaryIO, target: IO[bytes], start: int, end: int) -> None:
    source.seek(start)
    while start < end and (data := source.read(min(COPIED_AT_ONCE, end - start))):
        target.write(data)
        start += len(data)


def _punch(descriptor: int, start: int, length: int) -> None:
    if LIBC is None:
        raise OSError(f"a part of a file cannot be freed on {sys.platform}")
    mode = ctypes.c_int(PUNCH_HOLE | KEEP_SIZE)
    if LIBC.fallocate(ctypes.c_int(descriptor), mode, ctypes.c_int64(start), ctypes.c_int64(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
