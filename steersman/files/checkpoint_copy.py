"""Copies of checkpoints that outlive the originals. Standard library only."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from steersman.files.checkpoint import MANIFEST, Damaged, Manifest, read_manifest, sync_folder, verify_checkpoint
from steersman.files.private import FOLDER_MODE, open_private

# The file is on another file system, has another owner or too many links, or the file system has no links.
CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


def copy_checkpoint(source: Path, target: Path, sha256: str) -> Manifest:
    """Copy the checkpoint in `source` to the folder `target`; return its manifest.

    Files are hard links if possible, because a checkpoint never changes. The whole copy is verified: `source` may be
    removed at any moment. Raises `Damaged` if it is not the checkpoint with this SHA-256, `OSError` if it cannot be
    read or written.
    """
    manifest = read_manifest(source, sha256)
    target.mkdir(mode=FOLDER_MODE)
    for name in (*manifest.files, MANIFEST):
        try:
            _take(source / name, target / name)
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
    sync_folder(target)
    return verify_checkpoint(target, sha256)


def _take(source: Path, target: Path) -> None:
    if source.is_symlink():
        raise Damaged(f"{source.name} is a link")
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in CANNOT_LINK:
            raise
        with source.open("rb") as old, open_private(target, "wb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
