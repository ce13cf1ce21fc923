"""Invalid archives: links, names outside the folder, wrong hashes, truncated, of a newer format."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor_site.serving.archive.manifest import ArchiveError, Manifest, hashes_text, manifest_text
from monitor_site.serving.archive.reading import unpack

MANIFEST = Manifest(format=1, engine="sqlite", migrations=[], made_at="2026-01-01", host="gpu1", runs=1)
GOOD = {
    "backup.json": manifest_text(MANIFEST),
    "database.sqlite3": b"rows",
    "data/secret_key": b"key",
    "data/runs/1/attempts/1/journal-0000-000000.bin": b"points",
}
Change = Callable[[tarfile.TarFile], None]


def add(archive: tarfile.TarFile, name: str, content: bytes, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, len(content)
    archive.addfile(member, io.BytesIO(content))


def written(path: Path, members: dict[str, bytes], change: Change | None = None, **listed: str) -> Path:
    """Write an archive of `members`; `change` adds to it before the list of hashes, `listed` changes that list."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            add(archive, name, content)
        if change:
            change(archive)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
        add(archive, "SHA256SUMS", hashes_text(hashes | listed))
    return path


def refusal(path: Path, folder: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        unpack(path, folder)
    return str(caught.value)


def test_it_unpacks_what_a_backup_holds(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    assert unpack(written(tmp_path / "good.tar", GOOD), folder) == MANIFEST
    for name in list(GOOD)[1:]:
        assert (folder / name).read_bytes() == GOOD[name]
        assert (folder / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("data/runs/1/link", tarfile.SYMTYPE, "not a regular file"),
        ("data/runs/1/link", tarfile.LNKTYPE, "not a regular file"),
        ("data/runs/1/pipe", tarfile.FIFOTYPE, "not a regular file"),
        ("data/runs/1", tarfile.DIRTYPE, "not a regular file"),
        ("data/runs/../../escaped", tarfile.REGTYPE, "outside its folder"),
        ("/tmp/escaped", tarfile.REGTYPE, "outside its folder"),
        ("data/runs/./1/x", tarfile.REGTYPE, "outside its folder"),
        ("data/steersman.sqlite3", tarfile.REGTYPE, "does not belong"),
        ("data/secret_key", tarfile.REGTYPE, "twice"),
    ],
)
def test_it_refuses_members_that_no_backup_has(tmp_path: Path, name: str, kind: bytes, said: str) -> None:
    def change(archive: tarfile.TarFile) -> None:
        add(archive, name, b"", kind, "/etc/passwd")

    assert said in refusal(written(tmp_path / "bad.tar", GOOD, change), tmp_path / "unpacked")
    assert not (tmp_path / "escaped").exists()


def test_it_refuses_other_content_than_was_hashed(tmp_path: Path) -> None:
    wrong = written(tmp_path / "bad.tar", GOOD, **{"data/secret_key": "0" * 64})
    assert "data/secret_key does not match the list of hashes" in refusal(wrong, tmp_path / "1")
    more = written(tmp_path / "more.tar", GOOD, **{"data/runs/1/gone": "0" * 64})
    assert "data/runs/1/gone does not match the list of hashes" in refusal(more, tmp_path / "2")


def test_it_refuses_an_archive_that_was_cut_short_anywhere(tmp_path: Path) -> None:
    whole = written(tmp_path / "good.tar", GOOD).read_bytes()
    with tarfile.open(tmp_path / "good.tar") as archive:
        end = archive.getmembers()[-1].offset_data
    for place, size in enumerate((0, 100, 512, 700, *range(1024, end, 512), end)):
        cut = tmp_path / "cut.tar"
        cut.write_bytes(whole[:size])
        assert refusal(cut, tmp_path / str(place))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "has format 2"),
        ({"engine": "oracle"}, "cannot be read"),
        ({"migrations": None}, "cannot be read"),
    ],
)
def test_it_refuses_what_it_cannot_read(tmp_path: Path, change: dict[str, object], said: str) -> None:
    text = json.dumps(json.loads(GOOD["backup.json"]) | change).encode()
    assert said in refusal(written(tmp_path / "other.tar", GOOD | {"backup.json": text}), tmp_path / "unpacked")
    (tmp_path / "text.tar").write_text("no archive")
    assert "is not a backup" in refusal(tmp_path / "text.tar", tmp_path / "unpacked")
