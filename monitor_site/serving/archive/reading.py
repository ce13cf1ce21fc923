"""Reads a backup: every name and every hash is checked while it is unpacked, before anything is restored."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from monitor_site.serving.archive import manifest as names
from monitor_site.serving.archive.manifest import ArchiveError, Manifest
from steersman.files.private import make_private, open_private

BLOCK_BYTES = 1 << 20
OTHER = "use another backup."


def unpack(source: Path, folder: Path) -> Manifest:
    """Unpack the backup `source` into the empty `folder`; return its manifest.

    Accepts only regular files with plain relative names. Raises `ArchiveError` if anything differs from the manifest or
    the hashes; the content of `folder` must then not be used. Raises `OSError` if it cannot be written.
    """
    hashes: dict[str, str] = {}
    manifest: Manifest | None = None
    listed: dict[str, str] | None = None
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if listed is not None:
                    raise ArchiveError(f"The backup contains {member.name!r} after its list of hashes: {OTHER}")
                path = _checked(member, manifest)
                if member.name in hashes:
                    raise ArchiveError(f"The backup holds {member.name!r} twice: {OTHER}")
                content = archive.extractfile(member)
                assert content is not None  # it is a regular file
                if manifest is None:
                    text = content.read()
                    manifest = names.parse_manifest(text)
                    hashes[member.name] = hashlib.sha256(text).hexdigest()
                elif member.name == names.HASHES:
                    listed = names.parse_hashes(content.read())
                else:
                    hashes[member.name] = _copied(content, member.size, folder / path)
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{source.name} is not a backup, or is truncated ({error}): {OTHER}") from error
    except FileNotFoundError as error:
        raise ArchiveError(
            f"There is no file {source}: give the path of an archive that manage.py backup wrote."
        ) from error
    if manifest is None or listed is None:
        raise ArchiveError(f"The list of hashes at the end of the backup is missing: {OTHER}")
    for name in sorted(listed.keys() | hashes.keys()):
        if listed.get(name) != hashes.get(name):
            raise ArchiveError(f"{name} does not match the list of hashes in the backup: {OTHER}")
    if names.DATABASES[manifest.engine] not in hashes:
        raise ArchiveError(f"The backup contains no database: {OTHER}")
    return manifest


def read_manifest(source: Path) -> Manifest:
    """Return the manifest of the backup `source`. Raises `ArchiveError`; other members are not checked."""
    try:
        with source.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            first = archive.next()
            if first is None:
                raise ArchiveError(f"{source.name} is not a backup: {OTHER}")
            _checked(first, None)
            content = archive.extractfile(first)
            assert content is not None  # it is a regular file
            return names.parse_manifest(content.read())
    except (tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{source.name} is not a backup, or is truncated ({error}): {OTHER}") from error
    except FileNotFoundError as error:
        raise ArchiveError(
            f"There is no file {source}: give the path of an archive that manage.py backup wrote."
        ) from error


def _checked(member: tarfile.TarInfo, manifest: Manifest | None) -> PurePosixPath:
    """Return the path of a member below the folder. Raises `ArchiveError` if `write_backup` creates no such member."""
    shown = f"{member.name[:200]!r}"
    if not member.isreg() or member.issparse():
        raise ArchiveError(f"{shown} in the backup is not a regular file: {OTHER}")
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or str(path) != member.name or "\0" in member.name:
        raise ArchiveError(f"The backup contains a path outside its folder, {shown}: {OTHER}")
    if manifest is None:
        if member.name != names.MANIFEST or member.size > names.LARGEST_MANIFEST_BYTES:
            raise ArchiveError(f"The archive begins with {shown}, so it is not a backup: {OTHER}")
        return path
    is_data = member.name == names.DATA + names.SECRET_KEY or member.name.startswith(f"{names.DATA}{names.RUNS}/")
    if not is_data and member.name not in (names.DATABASES[manifest.engine], names.HASHES):
        raise ArchiveError(f"{shown} does not belong in a backup: {OTHER}")
    return path


def _copied(content: IO[bytes], size: int, target: Path) -> str:
    make_private(target.parent)
    digest, copied = hashlib.sha256(), 0
    with open_private(target, "xb") as file:
        while block := content.read(BLOCK_BYTES):
            file.write(block)
            digest.update(block)
            copied += len(block)
    if copied != size:
        raise ArchiveError(f"The backup is truncated in {target.name}: {OTHER}")
    return digest.hexdigest()
