"""Creates a backup: snapshot, files, and one archive that is complete or does not exist."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from monitor_site.serving.archive import manifest as names
from monitor_site.serving.archive.contents import Contents, Entry, hold, release
from monitor_site.serving.archive.database import Snapshot, engine, take_snapshot
from monitor_site.serving.archive.manifest import ArchiveError, Manifest
from steersman.agent.folders import host_name
from steersman.agent.journals.console_file import copy_without_hole, has_hole
from steersman.files.checkpoint import sync_folder
from steersman.files.locks import try_lock
from steersman.files.private import make_private, open_private

HELD, LOCK = "backup-held", "backup.lock"
# A checkpoint may be removed between the snapshot and its link. If that happens twice in a row, a rule is removing
# many.
MOST_SNAPSHOTS = 3
# Growing files are copied first, so that the archive has their true sizes; larger files are buffered on disk.
IN_MEMORY_BYTES = 8 << 20
Say = Callable[[str], None]


def write_backup(target: Path, data: Path, say: Say, *, overwrite: bool = False) -> Manifest:
    """Write the installation to the archive `target`, mode 0600, while trainings run. Raises `ArchiveError`."""
    if target.exists() and not overwrite:
        raise ArchiveError(f"{target} already exists: give another name, or --overwrite.")
    if not target.parent.is_dir():
        raise ArchiveError(f"There is no folder {target.parent}: create it, or give another path.")
    lock = try_lock(data / LOCK)
    if lock is None:
        raise ArchiveError("Another backup of this data folder is being made: wait until it has finished.")
    held = data / HELD
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        # Left by a backup that was killed.
        release(held)
        make_private(held)
        snapshot, contents = _consistent(held, data, say)
        manifest = Manifest(
            format=names.FORMAT,
            engine=engine(),
            migrations=snapshot.migrations,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            host=host_name(),
            runs=snapshot.runs,
            missing=sorted(contents.missing),
            elsewhere=sorted(contents.elsewhere),
        )
        temporary.unlink(missing_ok=True)
        with open_private(temporary, "xb") as file:
            _write(file, manifest, held, contents.entries, say)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise ArchiveError(
            f"The backup could not be written: {error.strerror or error}. The incomplete file was removed."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            release(held)
        lock.release()
    return manifest


def _consistent(held: Path, data: Path, say: Say) -> tuple[Snapshot, Contents]:
    """Return a snapshot with its checkpoints held; those that two snapshots in a row list without files are missing."""
    earlier: set[str] = set()
    for number in range(1, MOST_SNAPSHOTS + 1):
        release(held / names.RUNS)
        (held / names.SECRET_KEY).unlink(missing_ok=True)
        database = held / names.DATABASES[engine()]
        database.unlink(missing_ok=True)
        database.touch(mode=0o600)
        snapshot = take_snapshot(database)
        contents = hold(data, snapshot, held, host_name())
        if contents.missing <= earlier:
            break
        if number < MOST_SNAPSHOTS:
            say("A checkpoint was removed during the backup: taking a new snapshot of the database.")
        earlier = contents.missing
    return snapshot, contents


def _write(file: IO[bytes], manifest: Manifest, held: Path, entries: list[Entry], say: Say) -> None:
    hashes: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add_bytes(archive, hashes, names.MANIFEST, names.manifest_text(manifest))
        database = held / names.DATABASES[manifest.engine]
        _add_file(archive, hashes, Entry(database.name, database, database.stat().st_size, grows=False), held)
        say(f"database: {database.stat().st_size / 1e6:.1f} MB")
        run = ""
        for entry in entries:
            if (parts := Path(entry.name).parts)[0] == names.RUNS and parts[1] != run:
                run = parts[1]
                size = sum(each.size for each in entries if each.name.startswith(f"{names.RUNS}/{run}/"))
                say(f"run {run}: {size / 1e6:.1f} MB")
            _add_file(archive, hashes, Entry(names.DATA + entry.name, entry.path, entry.size, entry.grows), held)
        _add_bytes(archive, hashes, names.HASHES, names.hashes_text(hashes))


def _add_bytes(archive: tarfile.TarFile, hashes: dict[str, str], name: str, content: bytes) -> None:
    _add(archive, hashes, name, io.BytesIO(content), len(content))


def _add_file(archive: tarfile.TarFile, hashes: dict[str, str], entry: Entry, scratch: Path) -> None:
    with entry.path.open("rb") as source:
        if not entry.grows:
            _add(archive, hashes, entry.name, source, entry.size)
            return
        # Its writer may truncate an incomplete record, so the bytes that were read count.
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(scratch)) as copy:
            if has_hole(source):
                # The console of a training that prints without end: its size says nothing about its use of the disk.
                copy_without_hole(source, copy, entry.size)
                size = copy.tell()
                copy.seek(0)
                _add(archive, hashes, entry.name, copy, size)
                return
            left = entry.size
            while left > 0 and (block := source.read(min(left, 1 << 20))):
                copy.write(block)
                left -= len(block)
            copy.seek(0)
            _add(archive, hashes, entry.name, copy, entry.size - left)


def _add(archive: tarfile.TarFile, hashes: dict[str, str], name: str, source: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    reading = _Hashing(source)
    archive.addfile(member, reading)
    hashes[name] = reading.sha256


class _Hashing:
    """Forwards what is read, and hashes it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._source.read(size)
        self._hash.update(block)
        return block

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()
