"""Files and folders of the data folder, from outside: who may open them, and where they are."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from steersman.files.data_folder import UnfitFolder, prepare, refuse_unfit, who_else
from steersman.files.private import append_whole
from tests.support.stack import ROOT, SEED, Stack, create_run, run_row

OTHERS = 0o077
NAMES = ["lab #1", "what? exp%20one 数据 ü"]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
needs_sqlite = pytest.mark.skipif("STEERSMAN_TEST_POSTGRES" in os.environ, reason="looks at the SQLite file")
# A umask that restricts nothing, as the starting shell may have.
OPEN = {"umask": 0}


def open_to_others(folder: Path) -> list[str]:
    """Return the paths under `folder`, itself included, that others may open; links have no mode."""
    return [str(path) for path in [folder, *folder.rglob("*")] if _is_open(path)]


def _is_open(path: Path) -> bool:
    try:
        return not path.is_symlink() and bool(path.lstat().st_mode & OTHERS)
    except FileNotFoundError:
        # SQLite removes its log with the last connection.
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_the_disk_takes_in_part_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "lines"
    append_whole(path, b"first\n")
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with pytest.raises(OSError, match="No space left"):
        append_whole(path, b"second\n")
    monkeypatch.undo()
    append_whole(path, b"third\n")
    assert path.read_bytes() == b"first\nthird\n" and mode(path) == 0o600


def test_nothing_that_a_training_of_two_ranks_and_its_portal_write_is_open_to_others(tmp_path: Path):
    data = tmp_path / "data"
    before = os.umask(0)
    try:
        with Stack(data) as stack:
            # This file is created here, not copied from the template of other tests.
            stack._fill(SEED)
            stack.start_redis()
            stack.start_web()
            stack.manage(
                "create_run", "--quiet", "--project", "lab", "--recipe", "digits", "--set", "epochs=2", "--nproc", "2"
            )
            assert stack.train(1).wait(120) == 0, stack.log()
            stack.manage("create_run", "--quiet", "--project", "lab", "--recipe", "digits", "--set", "epochs=1")
            assert stack.train(2, "--inline").wait(120) == 0, stack.log()
            names = [path.name for path in data.rglob("*")]
            for expected in ("manifest.json", "console-0001.log", "worker-0001.lock", "secret_key", "digits.npy",
                             "supervisor.log", "task.json", "start.json", "ranks", "mailbox"):  # fmt: skip
                assert expected in names, f"{expected} is not among {sorted(set(names))}"
            assert open_to_others(data) == []
            assert open_to_others(stack.redis.socket.parent) == []
    finally:
        os.umask(before)


@needs_sqlite
def test_the_database_and_its_log_are_the_owners_also_in_a_folder_that_was_there_open(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir(0o755)
    data.chmod(0o755)
    look = (
        "import sqlite3, pathlib; from django.db import connection as c; c.ensure_connection(); "
        "c.cursor().execute('CREATE TABLE t (x)'); c.cursor().execute('INSERT INTO t VALUES (1)'); "
        f"print([oct(p.stat().st_mode & 0o777) for p in pathlib.Path({str(data)!r}).glob('*.sqlite3*')])"
    )
    shell = [sys.executable, "manage.py", "shell", "-v", "0", "-c", look]
    environment = os.environ | {"STEERSMAN_DATA": str(data)}
    said = subprocess.run(shell, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, **OPEN)
    assert said.stdout.strip() == "['0o600', '0o600', '0o600']"

    (data / "steersman.sqlite3").chmod(0o644)
    (data / "secret_key").chmod(0o644)
    again = [sys.executable, "manage.py", "shell", "-v", "0", "-c", "from django.db import connection as c; c.cursor()"]
    said = subprocess.run(again, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, **OPEN)
    assert mode(data / "steersman.sqlite3") == 0o600
    assert mode(data / "secret_key") == 0o600
    assert "steersman.sqlite3 was readable by other users" in said.stderr


def test_files_of_ones_own_script_keep_the_umask_of_whoever_started_it(offline_stack: Stack, tmp_path: Path):
    script = tmp_path / "mine.py"
    script.write_text(f"import steersman; steersman.attach().log(1, loss=1); open({str(tmp_path / 'model')!r}, 'w')")
    run_id = create_run(offline_stack)
    command = offline_stack.command("train", "--run-id", str(run_id), "--quiet", "--", str(script))
    subprocess.run(command, env=offline_stack.environment, check=True, timeout=120, umask=0o002)
    assert mode(tmp_path / "model") == 0o664


@pytest.mark.parametrize("arguments", [
    ("serve",), ("demo",), ("watch",), ("serve_portal",), ("train", "--run-id", "1"), ("runserver", "--noreload", "0"),
], ids=lambda words: words[0])  # fmt: skip
def test_what_serves_or_trains_refuses_a_folder_that_others_may_enter(arguments: tuple[str, ...], tmp_path: Path):
    data = tmp_path / "my data"
    data.mkdir()
    data.chmod(0o750)
    environment = os.environ | {"STEERSMAN_DATA": str(data)}
    command = [sys.executable, str(ROOT / "manage.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert f"chmod 700 '{data}'" in said and "STEERSMAN_SHARED_DATA=1" in said
    if arguments[0] != "runserver":
        assert done.returncode == 2
        assert "Traceback" not in said


def test_a_shared_folder_is_allowed_where_somebody_says_so(tmp_path: Path):
    tmp_path.chmod(0o770)
    with pytest.raises(UnfitFolder, match="mode 0770"):
        refuse_unfit(tmp_path, shared=False)
    refuse_unfit(tmp_path, shared=True)
    data = tmp_path / "data"
    data.mkdir(0o700)
    data.chmod(0o750)
    with Stack(data, STEERSMAN_SHARED_DATA="1") as stack:
        stack.migrate(SEED)
        run_id = create_run(stack)
        script = str(ROOT / "tests" / "trainings" / "short.py")
        assert stack.train(run_id, "--", script, "3").wait(60) == 0, stack.log()


@needs_root
def test_the_folder_of_another_user_is_refused_and_roots_is_not(tmp_path: Path):
    assert who_else(tmp_path) == ""
    os.chown(tmp_path, NOBODY, -1)
    assert "belongs to nobody" in who_else(tmp_path)


def test_the_default_folder_of_an_earlier_version_is_closed_and_no_other(tmp_path: Path):
    default, other = tmp_path / ".steersman", tmp_path / "other"
    for folder in (default, other):
        folder.mkdir()
        folder.chmod(0o755)
        prepare(folder, default, shared=False)
    assert (mode(default), mode(other)) == (0o700, 0o755)
    default.chmod(0o770)
    prepare(default, default, shared=True)
    assert mode(default) == 0o770


def test_a_folder_that_is_made_is_its_owners_with_all_that_was_missing_above_it(tmp_path: Path):
    before = os.umask(0)
    try:
        prepare(tmp_path / "a" / "b" / "data", tmp_path / "default", shared=False)
    finally:
        os.umask(before)
    assert open_to_others(tmp_path / "a") == []


def test_a_folder_in_which_no_script_would_find_the_client_is_refused(tmp_path: Path):
    with pytest.raises(UnfitFolder, match="has a : in its path"):
        refuse_unfit(tmp_path / "a:b", shared=False)


@needs_sqlite
@pytest.mark.parametrize("name", NAMES)
def test_a_data_folder_of_any_name_holds_its_own_database_run_and_server(name: str, tmp_path: Path):
    with Stack(tmp_path / name) as stack:
        stack._fill(SEED)
        run_id = create_run(stack, name=f"of {name}")
        assert run_id == 1
        script = str(ROOT / "tests" / "trainings" / "short.py")
        assert stack.train(run_id, "--", script, "5").wait(60) == 0, stack.log()
        assert run_row(stack, run_id)["state"] == "finished"
        assert (stack.data / "steersman.sqlite3").is_file()
        # No file beside it, under a truncated name.
        assert [path.name for path in tmp_path.iterdir()] == [name]
        stack.start_redis()
        stack.start_web()


def test_the_proxys_example_keeps_away_from_no_portal():
    for name in ("portals.conf", "portals_compose.conf"):
        text = (ROOT / "deploy" / "nginx" / name).read_text()
        servers = [line.strip(" ;") for line in text.splitlines() if re.match(r"\s*server ", line)]
        assert len(servers) == 3
        assert all("max_fails=0" in server.split() for server in servers)
