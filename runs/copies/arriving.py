"""The pieces of pushed checkpoints in the data folder, until the checkpoint is verified and stored."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from django.conf import settings

from steersman.files.checkpoint import FILE_NAME, MANIFEST, Damaged, Manifest, read_manifest, verify_checkpoint
from steersman.files.private import make_private, open_private

ARRIVING = ".arriving"
VERIFIED = ".verified"
LARGEST_PIECE_BYTES = 2 << 20
# The manifest and its rounding to blocks come on top of the size that the training reported.
MARGIN_BYTES = 8 << 20
FULL = (errno.ENOSPC, errno.EDQUOT)


class Misplaced(Exception):
    """A piece does not begin where the file ends here. `received` is its size in bytes."""

    def __init__(self, received: int) -> None:
        super().__init__(received)
        self.received = received


class NoRoom(Exception):
    """The disk of the portal is full."""


class BadFile(ValueError):
    """A file that no checkpoint of this kind has."""


def pushed_folder() -> Path:
    return Path(settings.STEERSMAN_DATA) / "pushed"


def folder_of(run_id: int) -> Path:
    return pushed_folder() / str(run_id)


def received(run_id: int, sha256: str) -> dict[str, int]:
    """Return how many bytes of each file have arrived."""
    with contextlib.suppress(Damaged):
        folder = _verified(run_id, sha256)
        found = read_manifest(folder, sha256)
        sizes = {name: file.size_bytes for name, file in found.files.items()}
        return sizes | {MANIFEST: (folder / MANIFEST).stat().st_size}
    try:
        return {path.name: path.stat().st_size for path in _arriving(run_id, sha256).iterdir()}
    except FileNotFoundError:
        return {}


def take_piece(run_id: int, sha256: str, name: str, offset: int, data: bytes, most_bytes: int) -> int:
    """Append a piece of a file; return the size of the file in bytes.

    Raises `Misplaced`, `NoRoom`, and `BadFile` for a name or size that the checkpoint cannot have: all files together
    have at most `most_bytes`.
    """
    if not FILE_NAME.fullmatch(name):
        raise BadFile(name)
    sizes = received(run_id, sha256)
    if _verified(run_id, sha256).is_dir():
        # All files have arrived: nothing is appended to them.
        if sizes.get(name) != offset or data:
            raise Misplaced(sizes.get(name, 0))
        return offset
    if sum(sizes.values()) + len(data) > most_bytes + MARGIN_BYTES:
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
        if error.errno in FULL:
            raise NoRoom from error
        raise
    return offset + len(data)


def verified(run_id: int, sha256: str) -> tuple[Path, Manifest]:
    """Verify the files that have arrived; return their folder, which receives no more pieces, and the manifest.

    The files of a folder that was verified before are not read again. Raises `Damaged` if the files differ from the
    checkpoint; those that do are removed, so that they are sent again.
    """
    done = _verified(run_id, sha256)
    if done.is_dir():
        try:
            return done, read_manifest(done, sha256)
        except Damaged:
            shutil.rmtree(done)
            raise
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
    os.replace(folder, done)
    return done, manifest


def forget(run_id: int, sha256: str) -> None:
    """Remove what has arrived of a checkpoint. Raises `OSError`."""
    for folder in (_arriving(run_id, sha256), _verified(run_id, sha256)):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
    # Fails if the run has other checkpoints here.
    with contextlib.suppress(OSError):
        folder_of(run_id).rmdir()


def lock_path(run_id: int, sha256: str) -> Path:
    """Return the path of the lock that a process holds while it verifies and stores a checkpoint."""
    return folder_of(run_id) / f"{sha256}.lock"


def _arriving(run_id: int, sha256: str) -> Path:
    return folder_of(run_id) / f"{sha256}{ARRIVING}"


def _verified(run_id: int, sha256: str) -> Path:
    return folder_of(run_id) / f"{sha256}{VERIFIED}"
