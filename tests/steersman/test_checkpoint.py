"""Files that are complete or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from steersman.files.checkpoint import verify, write_atomically

ROOT = Path(__file__).parents[2]


def test_it_writes_a_file_and_tells_size_and_hash(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"first, ")
        file.write(memoryview(b"second"))
        file.flush()

    path = tmp_path / "state.pt"
    written = write_atomically(path, write)
    assert path.read_bytes() == b"first, second"
    assert written.size_bytes == 13
    assert written.sha256 == hashlib.sha256(b"first, second").hexdigest()
    assert verify(path, written.sha256)


def test_it_counts_bytes_of_wider_elements(tmp_path: Path) -> None:
    import array

    numbers = array.array("d", [1.0, 2.0])
    written = write_atomically(tmp_path / "numbers", lambda file: file.write(memoryview(numbers)))
    assert written.size_bytes == 16 == (tmp_path / "numbers").stat().st_size


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_it_leaves_what_was_there_when_writing_fails(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"before")

    def write(file: BinaryIO) -> None:
        file.write(b"half of")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_it_shows_nothing_under_the_name_until_the_file_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.pt"
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def remember_sync(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        sync(descriptor)

    def remember_replace(source: Path, target: Path) -> Path:
        order.append("rename")
        assert source.read_bytes() == b"whole"
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", remember_sync)
    monkeypatch.setattr(Path, "replace", remember_replace)
    write_atomically(path, lambda file: file.write(b"whole"))
    assert order == ["file", "rename", "folder"]


def test_it_leaves_the_old_file_when_the_process_is_killed_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(b"before")
    script = (
        "import os, signal, sys, pathlib\n"
        "from steersman.files.checkpoint import write_atomically\n"
        "def write(file):\n"
        "    file.write(b'half of'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), write)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"before"


def test_it_verifies_nothing_that_is_missing_or_differs(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    written = write_atomically(path, lambda file: file.write(b"whole"))
    assert not verify(tmp_path / "other.pt", written.sha256)
    assert not verify(tmp_path, written.sha256)
    path.write_bytes(b"whale")
    assert not verify(path, written.sha256)
