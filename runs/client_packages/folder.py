"""The wheels and sdists of a folder, with the fields that an index shows."""

from __future__ import annotations

import hashlib
import logging
import tarfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

logger = logging.getLogger(__name__)

MOST_KNOWN = 1000


@dataclass(frozen=True, slots=True)
class Package:
    """A file that pip can install.

    `project` is normalised as in PEP 503. `requires_python` is empty if the package names no versions of Python.
    `size` is in bytes.
    """

    path: Path
    project: str
    version: str
    sha256: str
    requires_python: str
    size: int

    @property
    def name(self) -> str:
        return self.path.name


def packages_of(folder: Path) -> list[Package]:
    """Return the packages that are directly in `folder`, by name; none if the folder does not exist.

    Links are skipped, because they could point outside of the folder. Files that are not complete packages are skipped
    with a line in the log.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz")))
    except OSError:
        return []
    found = []
    for path in paths:
        if path.is_symlink() or not path.is_file():
            continue
        state = path.stat()
        package = _described(path, state.st_mtime_ns, state.st_size)
        if package is not None:
            found.append(package)
    return found


@lru_cache(maxsize=MOST_KNOWN)
def _described(path: Path, modified_ns: int, size: int) -> Package | None:
    """Return the description of a file; cached by path, modification time and size."""
    try:
        if path.suffix == ".whl":
            name, version, _, _ = parse_wheel_filename(path.name)
            metadata = _of_wheel(path)
        else:
            name, version = parse_sdist_filename(path.name)
            metadata = _of_sdist(path)
        requires_python = parse_email(metadata)[0].get("requires_python", "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        logger.warning("%s is not served to pip, because it is not a complete package: %s", path, error)
        return None
    return Package(path, canonicalize_name(name), str(version), digest, requires_python, size)


def _of_wheel(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        places = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
        if not places:
            raise KeyError("it has no METADATA")
        return archive.read(places[0])


def _of_sdist(path: Path) -> bytes:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.endswith("/PKG-INFO") and member.name.count("/") == 1:
                file = archive.extractfile(member)
                if file is not None:
                    return file.read()
    raise KeyError("it has no PKG-INFO")
