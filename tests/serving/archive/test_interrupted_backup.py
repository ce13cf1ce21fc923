"""Backup and restore where the disk is full or the process is killed: whole or not there, and to be repeated."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import ROOT, Stack, rows, run_row, seed_stack

# Kills its own process as soon as restoring has called `function`.
KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
import django
django.setup()
from django.core.management import call_command
from monitor_site.serving.archive import restoring
real = getattr(restoring, {function!r})
def killed(*arguments, **named):
    real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(restoring, {function!r}, killed)
call_command("restore", {archive!r})
"""
MOMENTS = ("unpack", "_put_files", "load_snapshot", "settle")
# Behind this moment rows are in place, and no restore may remove rows by itself.
FILLED = ("load_snapshot", "settle")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    """An installation with a finished run of two ranks, and its backup."""
    archive = tmp_path_factory.mktemp("backup") / "all.tar"
    with Stack() as stack:
        seed_stack(stack)
        stack.manage("recipes", "--publish")
        made = "create_run --quiet --project lab --recipe digits --set epochs=2 --device cpu --nproc 2"
        run_id = int(stack.manage(*made.split()).stdout)
        assert stack.train(run_id, "--quiet").wait(240) == 0, stack.log()
        stack.manage("backup", str(archive))
        yield stack, archive


def limited(stack: Stack, size: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of manage.py that can write no file beyond `size` bytes, as on a disk that is full."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *command],
        env=stack.environment, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip


def is_the_same(original: Stack, copy: Stack) -> None:
    """Assert that a copy holds the run of two ranks as the original does, and is whole."""
    for sql in (
        "SELECT seq, frame FROM runs_storedevent ORDER BY run_id, seq",
        "SELECT id, sha256, path FROM runs_checkpoint ORDER BY id",
        'SELECT rank, segment, "offset" FROM runs_journaloffset ORDER BY rank, segment',
    ):
        found = rows(copy, sql)
        assert found and found == rows(original, sql)
    assert run_row(copy, 1)["state"] == "finished"
    for journal in (original.data / "runs").rglob("journal-*"):
        assert (copy.data / journal.relative_to(original.data)).read_bytes() == journal.read_bytes()
    assert {row["rank"] for row in rows(copy, "SELECT rank FROM runs_journaloffset")} == {0, 1}
    assert copy.manage("verify", check=False).returncode == 0
    assert not [name for name in ("restore-unpacked", "restore-unfinished") if (copy.data / name).exists()]


def test_a_full_disk_leaves_no_backup_and_the_installation_whole(original: tuple[Stack, Path], tmp_path: Path) -> None:
    stack, archive = original
    target = tmp_path / "second.tar"
    # The snapshot of the database does not fit; then the archive itself, by a little.
    for size in (64 << 10, archive.stat().st_size - (64 << 10)):
        done = limited(stack, size, "backup", str(target))
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert list(tmp_path.iterdir()) == [] and not (stack.data / "backup-held").exists()
    stack.manage("backup", str(target))
    # The one of before is replaced as a whole, or stays.
    before = target.read_bytes()
    assert limited(stack, 64 << 10, "backup", str(target), "--overwrite").returncode == 2
    assert target.read_bytes() == before
    assert stack.manage("verify", check=False).returncode == 0


def test_a_full_disk_leaves_nothing_restored_and_the_same_restore_works_later(original: tuple[Stack, Path]) -> None:
    stack, archive = original
    with tarfile.open(archive) as members:
        largest = max(member.size for member in members)
    with Stack() as copy:
        for size in (16 << 10, largest - 1):
            done = limited(copy, size, "restore", str(archive))
            assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
            assert not (copy.data / "restore-unpacked").exists()
        copy.manage("restore", str(archive))
        is_the_same(stack, copy)


@pytest.mark.parametrize("function", MOMENTS)
def test_a_restore_that_was_killed_is_repeated(original: tuple[Stack, Path], function: str) -> None:
    stack, archive = original
    with Stack() as copy:
        program = KILLED.format(root=str(ROOT), function=function, archive=str(archive))
        done = subprocess.run([sys.executable, "-c", program], env=copy.environment, capture_output=True, text=True)
        assert done.returncode == -9, done.stderr
        again = copy.manage("restore", str(archive), check=False)
        if function in FILLED:
            assert again.returncode == 2 and "An earlier restore ended before all was in place" in again.stderr
            follow(copy)
            again = copy.manage("restore", str(archive), check=False)
        assert again.returncode == 0, again.stderr
        is_the_same(stack, copy)


def follow(copy: Stack) -> None:
    """Do what the restore asks for: empty the database, remove the files."""
    copy.manage("flush", "--no-input")
    shutil.rmtree(copy.data / "runs")
    os.unlink(copy.data / "restore-unfinished")
