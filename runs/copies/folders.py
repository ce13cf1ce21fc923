"""The folders of pushed checkpoints, whole and arriving."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

from django.conf import settings

from steersman.files.checkpoint import FILE_NAME, MANIFEST, Damaged, is_whole, read_manifest, verify_checkpoint
from steersman.files.private import make_private, open_private

logger = logging.getLogger(__name__)

ARRIVING = ".arriving"
LARGEST_PIECE_BYTES = 2 << 20
# The manifest and its rounding to blocks come on top of the size that the training reported.
MARGIN_BYTES = 8 << 20


class Misplaced(Exception):
    """A piece does not begin where the file ends here. `received` is its size in bytes."""

    def __init__(self, received: int) -> None:
        super().__init__(received)
        self.received = received


class NoRoom(Exception):
    """The disk of the portal is full."""


class BadFile(ValueError):
    """A file that no checkpoint of this kind has."""


def copies_of(run_id: int) -> Path:
    return Path(settings.STEERSMAN_DATA) / "pushed" / str(run_id)


def copy_folder(run_id: int, sha256: str) -> Path:
    """Return the folder of a whole copy; `sha256` is that of its manifest."""
    return copies_of(run_id) / sha256


def received(run_id: int, sha256: str) -> dict[str, int]:
    """Return how many bytes of each file have arrived."""
    folder = _arriving(run_id, sha256)
    try:
        return {path.name: path.stat().st_size for path in folder.iterdir()}
    except FileNotFoundError:
        return {}


def has_copy(run_id: int, sha256: str) -> bool:
    return is_whole(copy_folder(run_id, sha256))


def take_piece(run_id: int, sha256: str, name: str, offset: int, data: bytes, most_bytes: int) -> int:
    """Append a piece of a file; return the size of the file in bytes.

    Raises `Misplaced`, `NoRoom`, and `BadFile` for a name or size that the checkpoint cannot have: all files together
    have at most `most_bytes`.
    """
    if not FILE_NAME.fullmatch(name):
        raise BadFile(name)
    if sum(received(run_id, sha256).values()) + len(data) > most_bytes + MARGIN_BYTES:
        raise BadFile(name)
    try:
        folder = make_private(_arriving(run_id, sha256))
        with open_private(folder / name, "ab") as file:
            size = os.fstat(file.fileno()).st_size
            if size != offset:
                raise Misplaced(size)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom from error
        raise
    return offset + len(data)


def complete(run_id: int, sha256: str) -> None:
    """Make the files that have arrived a copy. Raises `Damaged` if they differ from the checkpoint; those that do are
    removed, so that they are sent again."""
    if has_copy(run_id, sha256):
        return
    folder = _arriving(run_id, sha256)
    try:
        manifest = read_manifest(folder, sha256)
    except Damaged:
        (folder / MANIFEST).unlink(missing_ok=True)
        raise
    for path in folder.iterdir():
        if path.name != MANIFEST and path.name not in manifest.files:
            path.unlink()
    try:
        verify_checkpoint(folder, sha256)
    except Damaged:
        shutil.rmtree(folder)
        raise
    os.replace(folder, copy_folder(run_id, sha256))


def remove_copy(run_id: int, sha256: str) -> None:
    """Remove a copy and what has arrived of one; an error is logged."""
    for folder in (copy_folder(run_id, sha256), _arriving(run_id, sha256)):
        _remove(folder)


def remove_copies(run_id: int) -> None:
    """Remove all copies of a run; an error is logged."""
    _remove(copies_of(run_id))


def _arriving(run_id: int, sha256: str) -> Path:
    return copies_of(run_id) / f"{sha256}{ARRIVING}"


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("the pushed checkpoint %s could not be removed (%s): remove the folder by hand", folder, error)
