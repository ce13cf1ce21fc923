"""Verifies the files that have arrived, and moves them to the storage. An interrupted move continues."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator

from runs.copies import arriving, stored
from runs.copies.arriving import NoRoom
from steersman.files.checkpoint import MANIFEST, Damaged
from steersman.files.locks import HeldLock, try_lock
from steersman.files.private import make_private

# Not a name of a file in a checkpoint.
MANIFEST_COPY = ".manifest"

# The locks of files do not exclude the threads of one process.
_storing: set[tuple[int, str]] = set()
_changing = threading.Lock()


class BeingStored(Exception):
    """Another request is verifying and storing the checkpoint."""


def complete(run_id: int, sha256: str) -> None:
    """Make the files that have arrived a copy. `arriving.forget` removes what is left of them.

    Raises `BeingStored`, `Damaged` if they differ from the checkpoint, `StorageAway` and `NoRoom`.
    """
    with _alone(run_id, sha256):
        if stored.has_copy(run_id, sha256):
            return
        folder, manifest = arriving.verified(run_id, sha256)
        try:
            for name, file in manifest.files.items():
                stored.put(run_id, sha256, name, folder / name, file.size_bytes)
            # A copy, because the folder needs its manifest until the row of the checkpoint is updated.
            shutil.copyfile(folder / MANIFEST, folder / MANIFEST_COPY)
            size_bytes = (folder / MANIFEST).stat().st_size
            stored.put(run_id, sha256, MANIFEST, folder / MANIFEST_COPY, size_bytes)
        except FileNotFoundError as error:
            # It was in the storage before, and somebody removed it there.
            arriving.forget(run_id, sha256)
            raise Damaged("a file is missing") from error
        except OSError as error:
            if error.errno in arriving.FULL:
                raise NoRoom from error
            raise


def remove_damaged(run_id: int, sha256: str) -> list[str]:
    """Verify a copy, and remove it if it is damaged; return the damaged files, [] if there are none.

    Raises `BeingStored`, `StorageAway` and `NoRoom`.
    """
    with _alone(run_id, sha256):
        if not stored.has_copy(run_id, sha256):
            return []
        damaged = stored.damaged_files(run_id, sha256)
        if damaged:
            stored.remove(run_id, sha256)
        return damaged


def is_being_stored(run_id: int, sha256: str) -> bool:
    """Return whether a request verifies and stores the checkpoint at present, in any process of this data folder."""
    with _changing:
        if (run_id, sha256) in _storing:
            return True
        if not arriving.lock_path(run_id, sha256).exists():
            return False
        lock = try_lock(arriving.lock_path(run_id, sha256))
        if lock is not None:
            lock.release()
        return lock is None


@contextlib.contextmanager
def _alone(run_id: int, sha256: str) -> Iterator[None]:
    path = arriving.lock_path(run_id, sha256)
    lock = _take(run_id, sha256)
    try:
        yield
    finally:
        with _changing:
            path.unlink(missing_ok=True)
            lock.release()
            _storing.discard((run_id, sha256))
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _take(run_id: int, sha256: str) -> HeldLock:
    with _changing:
        if (run_id, sha256) in _storing:
            raise BeingStored
        path = arriving.lock_path(run_id, sha256)
        make_private(path.parent)
        lock = try_lock(path)
        if lock is None:
            raise BeingStored
        _storing.add((run_id, sha256))
        return lock
