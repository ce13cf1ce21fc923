"""Backup and restore on a full disk or with a killed process: the result is complete or absent, and a retry works."""

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

from tests.support import postgres
from tests.support.stack import ROOT, Stack, rows, run_row, seed_stack, wait_for

# Kills its own process before or after a call of one function of the restore.
KILLED = """
import importlib, os, signal, sys
sys.path.insert(0, {root!r})
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
import django
django.setup()
from django.core.management import call_command
module = importlib.import_module("monitor_site.serving.archive." + {module!r})
real = getattr(module, {function!r})
def killed(*arguments, **named):
    if {when!r} == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(module, {function!r}, killed)
call_command("restore", {archive!r})
"""
# From the first file on disk to the last: the next restore begins with the remains of each kill.
MOMENTS = (
    ("after", "restoring", "unpack"),
    ("after", "unfinished", "write_begun"),
    ("after", "restoring", "_put_files"),
    ("after", "unfinished", "mark"),
    ("after", "restoring", "load_snapshot"),
    ("before", "restoring", "load_snapshot"),
    ("after", "restoring", "call_command"),
    ("before", "restoring", "settle"),
    ("after", "unfinished", "unmark"),
    ("before", "unfinished", "forget_begun"),
)
SOMEBODY = "from django.contrib.auth.models import User; User(username='somebody').save()"
REFUSED = "run `manage.py restore` with the same file again"


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
    """Run a command of manage.py that can write no file beyond `size` bytes, as on a full disk."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *command],
        env=stack.environment, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip


def is_the_same(original: Stack, copy: Stack) -> None:
    """Assert that a copy contains the run of two ranks as the original does, and is complete."""
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
    # First the snapshot of the database does not fit; then the archive itself, by a little.
    for size in (64 << 10, archive.stat().st_size - (64 << 10)):
        done = limited(stack, size, "backup", str(target))
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert list(tmp_path.iterdir()) == [] and not (stack.data / "backup-held").exists()
    stack.manage("backup", str(target))
    # The previous archive is replaced as a whole, or remains.
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


def killed(copy: Stack, archive: Path, when: str, module: str, function: str) -> None:
    """Restore, and be killed before or after a function."""
    program = KILLED.format(root=str(ROOT), when=when, module=module, function=function, archive=str(archive))
    done = subprocess.run([sys.executable, "-c", program], env=copy.environment, capture_output=True, text=True)
    assert done.returncode == -9, (function, done.stdout, done.stderr)


def test_a_restore_that_was_killed_at_any_moment_is_repeated(original: tuple[Stack, Path]) -> None:
    stack, archive = original
    with Stack() as copy:
        for moment in MOMENTS:
            killed(copy, archive, *moment)
        # Commands now would see half of an installation, and the restore would remove their changes.
        for command in ("first_login", "serve_portal", "watch"):
            refused = copy.manage(command, check=False)
            assert refused.returncode == 2 and REFUSED in refused.stderr, (command, refused.stderr)
        copy.manage("restore", str(archive))
        is_the_same(stack, copy)


def test_rows_that_came_after_a_restore_was_killed_are_kept(original: tuple[Stack, Path]) -> None:
    with Stack() as copy:
        copy.migrate()
        killed(copy, original[1], "after", "restoring", "_put_files")
        copy.manage("shell", "-v", "0", "-c", SOMEBODY)
        refused = copy.manage("restore", str(original[1]), check=False)
        assert refused.returncode == 2 and "already contains rows" in refused.stderr, refused.stderr
        assert f"remove {copy.data / 'restore-unfinished'} to keep" in refused.stderr
        assert [row["username"] for row in rows(copy, "SELECT username FROM auth_user")] == ["somebody"]


def test_a_database_that_another_data_folder_fills_is_left_to_it(original: tuple[Stack, Path], tmp_path: Path) -> None:
    stack, archive = original
    with Stack() as copy:
        killed(copy, archive, "after", "restoring", "load_snapshot")
        address = copy.environment.get("STEERSMAN_DATABASE_URL", f"sqlite:///{copy.data / 'steersman.sqlite3'}")
        elsewhere = {"STEERSMAN_DATA": str(tmp_path / "other"), "STEERSMAN_DATABASE_URL": address}
        refused = subprocess.run(
            copy.command("restore", str(archive)), env=copy.environment | elsewhere, capture_output=True, text=True
        )
        assert refused.returncode == 2 and "used another data folder" in refused.stderr, refused.stderr
        copy.manage("restore", str(archive))
        is_the_same(stack, copy)


@pytest.mark.skipif(not postgres.server(), reason="pg_restore belongs to PostgreSQL")
def test_the_program_of_a_restore_that_was_killed_ends_with_it(original: tuple[Stack, Path], tmp_path: Path) -> None:
    stack, archive = original
    real = shutil.which("pg_restore")
    program = tmp_path / "pg_restore"
    program.write_text(f'#!/bin/sh\necho $$ >{tmp_path}/pid\nkill -9 $PPID\n{real} "$@"\ntouch {tmp_path}/loaded\n')
    program.chmod(0o755)
    with Stack() as copy:
        path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(copy.command("restore", str(archive)), env=copy.environment | path, capture_output=True)
        assert done.returncode == -9, done.stderr
        pid = int((tmp_path / "pid").read_text())
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of pg_restore")
        assert not (tmp_path / "loaded").exists()
        copy.manage("restore", str(archive))
        is_the_same(stack, copy)
