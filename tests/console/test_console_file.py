"""The console file gives the space of its middle back to the disk, while it is written and afterwards."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from monitor_site.serving.archive.contents import Entry
from monitor_site.serving.archive.writing import _add_file
from steersman.agent.journals import console_file
from steersman.agent.journals.console import ConsoleTail
from steersman.agent.journals.console_file import BLOCK_BYTES, bound_earlier, free_middle, has_hole, without_hole

LARGEST = 64 * BLOCK_BYTES
FIRST = b"the first line\n"
LAST = b"the last line\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def lines(count: int) -> bytes:
    return b"".join(b"%099d\n" % number for number in range(count))


def on_disk(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_small_file_and_none_stay_as_they_are(path):
    assert free_middle(path, LARGEST) == 0
    path.write_bytes(FIRST + LAST)
    assert free_middle(path, LARGEST) == 0
    without_hole(path)
    assert path.read_bytes() == FIRST + LAST


def test_the_middle_is_given_back_while_the_writer_goes_on(path):
    with path.open("ab", buffering=0) as writer:
        writer.write(FIRST)
        for _ in range(5):
            writer.write(lines(4000))
            before = path.stat().st_size
            left_out = free_middle(path, LARGEST)
            assert left_out > 0 and path.stat().st_size == before
            assert on_disk(path) <= LARGEST
        writer.write(LAST)
    data = path.read_bytes()
    assert len(data) == len(FIRST) + 5 * len(lines(4000)) + len(LAST)
    assert data.startswith(FIRST + lines(100)) and data.endswith(LAST)
    whole = FIRST + lines(4000) * 5 + LAST
    tail = LARGEST // 2 - 2 * BLOCK_BYTES
    assert data[-tail:] == whole[-tail:]
    assert data.count(b"bytes of output were left out here") == 2


def test_a_supervisor_reads_on_at_the_offset_that_it_had(path):
    path.write_bytes(FIRST + lines(4000))
    tail = ConsoleTail(path, path.stat().st_size)
    free_middle(path, LARGEST)
    with path.open("ab") as writer:
        writer.write(LAST)
    assert tail.read().lines == ["the last line"]


def test_once_it_has_ended_it_is_a_plain_file_with_one_sentence(path):
    path.write_bytes(FIRST + lines(9000) + LAST)
    whole = path.read_bytes()
    left_out = free_middle(path, LARGEST)
    without_hole(path)
    data = path.read_bytes()
    assert len(data) < LARGEST and path.stat().st_mode & 0o777 == 0o600
    before, behind = data.split(b"\n[%d bytes of output were left out here]\n" % left_out)
    assert whole.startswith(before) and whole.endswith(behind)
    assert len(before) + left_out + len(behind) == len(whole)
    without_hole(path)
    assert path.read_bytes() == data


def test_who_is_killed_while_the_middle_goes_loses_neither_end(path, monkeypatch):
    path.write_bytes(FIRST + lines(9000) + LAST)

    def killed(*arguments: object) -> int:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", killed)
        with pytest.raises(SystemExit):
            free_middle(path, LARGEST)
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(SystemExit):
            without_hole(path)
    assert path.read_bytes().startswith(FIRST) and path.read_bytes().endswith(LAST)
    without_hole(path)
    data = path.read_bytes()
    assert data.startswith(FIRST) and data.endswith(LAST) and len(data) < LARGEST
    assert data.count(b"bytes of output were left out here") == 1


def test_a_bound_that_changed_between_two_supervisors_leaves_one_hole(path):
    path.write_bytes(FIRST + lines(9000))
    free_middle(path, LARGEST)
    with path.open("ab") as writer:
        writer.write(lines(9000) + LAST)
    free_middle(path, 2 * LARGEST)
    without_hole(path)
    data = path.read_bytes()
    assert data.startswith(FIRST) and data.endswith(LAST) and b"\0" not in data
    assert len(data) < 2 * LARGEST and data.count(b"left out here") == 1


def test_earlier_attempts_share_a_bound_and_the_newest_comes_first(tmp_path):
    folders = [tmp_path / name for name in ("3", "2", "1")]
    for folder in folders:
        folder.mkdir()
        (folder / "console.log").write_bytes(FIRST + lines(9000) + LAST)
    bound_earlier(folders, 1_000_000)
    newest, *older = [(folder / "console.log").read_bytes() for folder in folders]
    assert newest == FIRST + lines(9000) + LAST
    for data in older:
        assert data.startswith(FIRST) and data.endswith(LAST)
        assert len(data) < console_file.LEAST_KEPT_BYTES and data.count(b"left out here") == 1


def test_who_asks_for_a_hole_reads_on_where_the_file_stood(path):
    path.write_bytes(FIRST + LAST)
    with path.open("rb") as file:
        assert file.readline() == FIRST
        assert not has_hole(file)
        assert file.read() == LAST
    with path.open("rb") as file:
        assert not has_hole(file)
        assert file.read() == FIRST + LAST


def test_a_backup_of_a_console_with_a_hole_has_what_the_disk_has(path, tmp_path):
    path.write_bytes(FIRST + lines(9000) + LAST)
    free_middle(path, LARGEST)
    held = path.stat().st_size
    with path.open("ab") as writer:
        writer.write(b"printed meanwhile\n")
    hashes: dict[str, str] = {}
    with tarfile.open(tmp_path / "backup.tar", "w") as archive:
        _add_file(archive, hashes, Entry("console.log", path, held, grows=True), tmp_path)
    with tarfile.open(tmp_path / "backup.tar") as archive:
        copied = archive.extractfile("console.log")
        assert copied is not None
        data = copied.read()
    assert data.startswith(FIRST) and data.endswith(LAST)
    assert len(data) < LARGEST and data.count(b"left out here") == 1
    assert hashlib.sha256(data).hexdigest() == hashes["console.log"]
