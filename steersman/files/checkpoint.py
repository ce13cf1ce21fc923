"""Checkpoints on disk: files that are either complete or do not exist, and folders with a manifest.

A checkpoint is a folder of files. `manifest.json` names them with size and SHA-256 and is written last, so a folder
without it is left from an interrupted save. The SHA-256 of the manifest identifies the checkpoint. Standard library
only; does not depend on the content of the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from steersman.files.private import open_private

HASH_BLOCK_BYTES = 1 << 20
MANIFEST = "manifest.json"
FORMAT = 2
# Enough for thousands of ranks; a larger one is not ours.
LARGEST_MANIFEST_BYTES = 4 << 20
# Plain names only: a manifest must not lead out of its folder.
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Damaged(ValueError):
    """A checkpoint that differs from its record. The text names the difference."""


@dataclass(frozen=True, slots=True)
class Written:
    """The result of `write_atomically`."""

    size_bytes: int
    sha256: str


class _HashingFile:
    """Forwards writes and hashes them. It has no seek, so that the hash is that of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._file.write(data)
        self._hash.update(data)
        size = memoryview(data).nbytes
        self.size_bytes += size
        return size

    def flush(self) -> None:
        self._file.flush()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a checkpoint: `files` by name; `reason` is one of last, best, hourly, named and stop."""

    step: int
    epoch: int
    name: str
    reason: str
    files: dict[str, Written]
    metrics: dict[str, float | None] = field(default_factory=dict)
    # The values of its knobs, by name and parameter group.
    knobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files.values())


def write_hashed(path: Path, write: Callable[[BinaryIO], object]) -> Written:
    """Write a file of a checkpoint before its manifest; it is on disk after return. Raises `OSError`."""
    with open_private(path, "wb") as file:
        hashing = _HashingFile(file)
        write(cast(BinaryIO, hashing))
        file.flush()
        os.fsync(file.fileno())
    return Written(size_bytes=hashing.size_bytes, sha256=hashing.sha256)


def write_manifest(folder: Path, manifest: Manifest) -> Written:
    """Complete the checkpoint in `folder`; return its size with the manifest, and the manifest's SHA-256."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1, allow_nan=False).encode()
    written = write_atomically(folder / MANIFEST, lambda file: file.write(text))
    sync_folder(folder.parent)
    return Written(size_bytes=manifest.size_bytes + written.size_bytes, sha256=written.sha256)


def read_manifest(folder: Path, sha256: str) -> Manifest:
    """Return the manifest of a checkpoint. Raises `Damaged` if it is gone, or not the recorded one."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            content = file.read(LARGEST_MANIFEST_BYTES + 1)
    except OSError:
        raise Damaged("it is missing or incomplete") from None
    return parse_manifest(content, sha256)


def parse_manifest(content: bytes, sha256: str) -> Manifest:
    """Return the manifest with this content. Raises `Damaged` if it is not the recorded one."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Damaged("the SHA-256 of its manifest differs from the recorded one")
    try:
        return _parsed(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(str(error) if isinstance(error, Damaged) else "its manifest cannot be read") from None


def verify_checkpoint(folder: Path, sha256: str) -> Manifest:
    """Return the manifest of a checkpoint if all files are unchanged. Raises `Damaged` otherwise."""
    manifest = read_manifest(folder, sha256)
    for name, expected in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise Damaged(f"{name} is missing")
        if path.stat().st_size != expected.size_bytes or not verify(path, expected.sha256):
            raise Damaged(f"the SHA-256 of {name} differs from the recorded one")
    return manifest


def is_whole(folder: Path) -> bool:
    """Return whether a checkpoint was saved completely; `verify_checkpoint` checks whether it is unchanged."""
    return (folder / MANIFEST).is_file()


def has_manifest(folder: Any, sha256: Any) -> bool:
    """Return whether a path, of any type, is a folder with a manifest of ours that has this SHA-256."""
    try:
        read_manifest(Path(folder), sha256)
    except Exception:  # any exception, also of the values' own methods
        return False
    return True


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint, its manifest first: a partly removed folder is then no checkpoint. Raises `OSError`."""
    (folder / MANIFEST).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _parsed(fields: Mapping[str, Any]) -> Manifest:
    if fields["format"] != FORMAT:
        raise Damaged(f"it has format {fields['format']!r}, but this version of Steersman reads format {FORMAT}")
    files = {name: Written(int(of["size_bytes"]), str(of["sha256"])) for name, of in fields["files"].items()}
    for name in files:
        if not FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise Damaged("its manifest lists a file outside its folder")
    return Manifest(
        step=int(fields["step"]),
        epoch=int(fields["epoch"]),
        name=str(fields["name"]),
        reason=str(fields["reason"]),
        files=files,
        metrics=dict(fields["metrics"]),
        knobs={name: dict(by_group) for name, by_group in fields.get("knobs", {}).items()},
    )


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> Written:
    """Write the file `path` with `write(file)`, where `file` supports only `write` and `flush`.

    After return, the file is complete and on disk under its name. After an exception, such as `OSError` for a full
    disk, the previous file is unchanged and nothing is left over.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open_private(temporary, "wb") as file:
            hashing = _HashingFile(file)
            write(cast(BinaryIO, hashing))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
    return Written(size_bytes=hashing.size_bytes, sha256=hashing.sha256)


def verify(path: Path, sha256: str) -> bool:
    """Return whether the file `path` exists, is readable, and has this SHA-256 (lower-case hexadecimal)."""
    try:
        return hashed(path).sha256 == sha256
    except OSError:
        return False


def hashed(path: Path) -> Written:
    """Return size and SHA-256 of a file that another process has written. Raises `OSError`."""
    found, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            found.update(block)
            size_bytes += len(block)
    return Written(size_bytes=size_bytes, sha256=found.hexdigest())


def sync_folder(folder: Path) -> None:
    """Make the rename durable: without this, a power failure may restore the old name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
