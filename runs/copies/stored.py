"""The storage `checkpoints` of Django, which holds the verified copies. Every file is named `RUN/SHA256/FILE`."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from django.core.files import File
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.utils.translation import gettext as _

from runs.copies.arriving import FULL, NoRoom
from steersman.files.checkpoint import FILE_NAME, LARGEST_MANIFEST_BYTES, MANIFEST, Damaged, parse_manifest

logger = logging.getLogger(__name__)

ALIAS = "checkpoints"
READ_BYTES = 1 << 20
PROBE = b"Steersman: a test file"


class StorageAway(Exception):
    """The storage does not answer, or refuses. The text is a sentence for people, without names of servers."""

    def __init__(self) -> None:
        super().__init__(
            _(
                "The storage of the pushed checkpoints is unavailable: try again later. manage.py doctor on the portal "
                "shows the reason."
            )
        )


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An open file of a copy at its first byte, and its size in bytes. Close `file`."""

    name: str
    file: IO[bytes]
    size_bytes: int


class MovableFile(File):
    """A file of the data folder that a storage on the same file system may move instead of copying it."""

    def temporary_file_path(self) -> str:
        return str(self.name)


def has_copy(run_id: int, sha256: str) -> bool:
    """Return whether the storage has a whole copy: its manifest is stored last. Raises `StorageAway`."""
    with _answering():
        return _storage().exists(_name(run_id, sha256, MANIFEST))


def copies_of(run_id: int) -> set[str]:
    """Return the SHA-256 of the copies of a run, by one request. Raises `StorageAway`.

    A copy that is being stored counts, too.
    """
    with _answering():
        return set(_list(str(run_id))[0])


def put(run_id: int, sha256: str, name: str, path: Path, size_bytes: int) -> None:
    """Store a verified file of the data folder, which may be gone from there afterwards.

    Does nothing if the storage has the file. Raises `StorageAway`, `NoRoom`, and `FileNotFoundError` if the file is
    in neither place.
    """
    place = _name(run_id, sha256, name)
    with _answering():
        storage = _storage()
        if storage.exists(place):
            if storage.size(place) == size_bytes:
                return
            storage.delete(place)
        with path.open("rb") as file:
            saved = storage.save(place, MovableFile(file, str(path)))
        if saved != place:
            raise OSError(f"it saved {place} under another name, {saved}: it must keep the names of files")
        if storage.size(place) != size_bytes:
            raise OSError(f"it has {storage.size(place)} bytes of {place} instead of {size_bytes}")


def open_stored(run_id: int, sha256: str, name: str) -> StoredFile:
    """Open a file of a copy. Raises `FileNotFoundError` and `StorageAway`."""
    if not FILE_NAME.fullmatch(name):
        raise FileNotFoundError(name)
    with _answering():
        file = _storage().open(_name(run_id, sha256, name))
        return StoredFile(name, cast(IO[bytes], file), file.size)


def open_all(run_id: int, sha256: str) -> list[StoredFile]:
    """Open all files of a copy, by name. Raises `FileNotFoundError` if there is no whole copy, and `StorageAway`."""
    with _answering():
        names = sorted(_list(_name(run_id, sha256))[1])
    if MANIFEST not in names:
        raise FileNotFoundError(MANIFEST)
    with contextlib.ExitStack() as opened:
        found = []
        for name in names:
            found.append(open_stored(run_id, sha256, name))
            opened.callback(found[-1].file.close)
        opened.pop_all()
    return found


def damaged_files(run_id: int, sha256: str) -> list[str]:
    """Read a copy; return the names of files that are missing or differ from the checkpoint. Raises `StorageAway`."""
    try:
        with open_stored(run_id, sha256, MANIFEST).file as file, _answering():
            manifest = parse_manifest(file.read(LARGEST_MANIFEST_BYTES + 1), sha256)
    except (FileNotFoundError, Damaged):
        return [MANIFEST]
    return [name for name, written in manifest.files.items() if _hash(run_id, sha256, name) != written.sha256]


def _hash(run_id: int, sha256: str, name: str) -> str:
    """Return the SHA-256 of a file of a copy, "" if it is missing."""
    found = hashlib.sha256()
    try:
        with open_stored(run_id, sha256, name).file as file, _answering():
            while part := file.read(READ_BYTES):
                found.update(part)
    except FileNotFoundError:
        return ""
    return found.hexdigest()


def remove(run_id: int, sha256: str) -> None:
    """Remove a copy, its manifest first. Raises `StorageAway`."""
    with _answering():
        _remove(_name(run_id, sha256))


def remove_all(run_id: int) -> None:
    """Remove all copies of a run. Raises `StorageAway`."""
    with _answering():
        for sha256 in _list(str(run_id))[0]:
            _remove(_name(run_id, sha256))
        _storage().delete(str(run_id))


def look() -> None:
    """Store, read and delete a small file. Raises `OSError` with the reason if the storage does not do that."""
    storage = _storage()
    name = f"doctor/{uuid.uuid4().hex}"
    saved = storage.save(name, ContentFile(PROBE))
    try:
        with storage.open(saved) as file:
            if file.read() != PROBE:
                raise OSError(
                    "it returned content that differs from what was stored; check the server, and any proxy in front "
                    "of it"
                )
    finally:
        storage.delete(saved)


def _storage() -> Storage:
    return storages[ALIAS]


def _name(run_id: int, sha256: str, *file: str) -> str:
    return "/".join((str(run_id), sha256, *file))


def _list(folder: str) -> tuple[list[str], list[str]]:
    """Return the folders and files in a folder of the storage."""
    try:
        return _storage().listdir(folder)
    except FileNotFoundError:
        return [], []


def _remove(folder: str) -> None:
    storage = _storage()
    names = _list(folder)[1]
    for name in sorted(names, key=lambda each: each != MANIFEST):
        storage.delete(f"{folder}/{name}")
    # A bucket has no folders, and ignores this.
    storage.delete(folder)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Turn the errors of the storage into `StorageAway` and `NoRoom`; the reason is logged."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise NoRoom from error
        logger.warning("the storage of pushed checkpoints is unavailable: %s", error)
        raise StorageAway from error
