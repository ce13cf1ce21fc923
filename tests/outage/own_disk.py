"""A small separate disk for the database of a stack, which can be full or read-only; journals are on another disk."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DISK_BYTES = 64 << 20
NEEDS_ROOT = "skipped: the disk is full, the file is read-only (loop mounts and chattr +i need root)"


def can_mount() -> bool:
    return os.geteuid() == 0 and subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk() -> Iterator[Path]:
    """Yield a data folder on a disk of `DISK_BYTES`, whose runs are on the disk of the temporary folder."""
    place = Path(tempfile.mkdtemp(prefix="steersman-disk-"))
    data, image = place / "data", place / "image"
    with ExitStack() as undo:
        undo.callback(subprocess.run, ["rm", "-rf", "--one-file-system", str(place)], check=False)
        for folder in (data, place / "runs"):
            folder.mkdir(mode=0o700)
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", str(image))
        _run("mount", "-o", "loop", str(image), str(data))
        undo.callback(_run, "umount", "--lazy", str(data))
        data.chmod(0o700)
        (data / "runs").mkdir(mode=0o700)
        _run("mount", "--bind", str(place / "runs"), str(data / "runs"))
        undo.callback(_run, "umount", "--lazy", str(data / "runs"))
        yield data


@contextmanager
def full(data: Path) -> Iterator[None]:
    """Fill the disk of a data folder completely."""
    ballast = data / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 512:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def immutable(*paths: Path) -> Iterator[None]:
    """Make files immutable, even for root."""
    there = [str(path) for path in paths if path.exists()]
    _run("chattr", "+i", *there)
    try:
        yield
    finally:
        _run("chattr", "-i", *there)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
