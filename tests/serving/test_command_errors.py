"""The message of `manage.py` when the data folder or database is not ready for a command: its remedy works."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import OperationalError, ProgrammingError

from monitor_site.command_errors import explained
from steersman.files.data_folder import UnfitFolder, prepare
from tests.support.stack import ROOT


@pytest.mark.parametrize(
    ("error", "remedy", "code"),
    [
        (OperationalError("no such table: runs_run"), "run manage.py migrate first", 2),
        (OperationalError("no such column: runs_run.ranks"), "run manage.py migrate first", 2),
        (ProgrammingError('relation "runs_run" does not exist\nLINE 1: SELECT'), "run manage.py migrate first", 2),
        (OperationalError("database is locked"), "Try again in a moment", 1),
        (OperationalError("canceling statement due to lock timeout"), "Try again in a moment", 1),
        (OperationalError("unable to open database file"), "manage.py doctor", 1),
        (OperationalError("connection refused\nIs the server running?"), "manage.py doctor", 1),
        (UnfitFolder("Close it."), "Close it.", 2),
    ],
)
def test_each_problem_has_the_remedy_that_works(error: Exception, remedy: str, code: int) -> None:
    told = explained(error)
    assert told is not None
    assert remedy in told[0] and told[1] == code and "\n" not in told[0]
    assert ("migrate" in told[0]) == ("migrate" in remedy)


@pytest.mark.parametrize("error", [ValueError("no such table"), ProgrammingError("syntax error"), KeyError("locked")])
def test_what_is_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    assert explained(error) is None


def test_a_data_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UnfitFolder, match="set STEERSMAN_DATA") as told:
            prepare(folder, tmp_path / "default", shared=False)
        assert str(folder) in str(told.value)


def test_a_data_folder_that_is_read_only_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(UnfitFolder, match="cannot be written to"):
        prepare(tmp_path, tmp_path / "default", shared=False)


def test_no_command_shows_a_traceback_of_an_empty_or_useless_data_folder(tmp_path: Path) -> None:
    empty, file, damaged = tmp_path / "empty", tmp_path / "file", tmp_path / "damaged"
    file.touch()
    damaged.mkdir(mode=0o700)
    (damaged / "steersman.sqlite3").write_text("no database " * 100)

    def refused(data: Path, *arguments: str) -> tuple[int, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(
            command, env=environment | {"STEERSMAN_DATA": str(data)}, capture_output=True, text=True, timeout=60
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stderr.splitlines()[-1]

    for arguments in (("train", "--run-id", "1"), ("first_login",), ("command", "1", "--list")):
        code, sentence = refused(empty, *arguments)
        assert code == 2 and "manage.py migrate" in sentence
    assert sqlite3.connect(empty / "steersman.sqlite3").execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    code, sentence = refused(file, "create_run", "--project", "lab")
    assert code == 2 and str(file) in sentence and "STEERSMAN_DATA" in sentence
    code, sentence = refused(damaged, "first_login")
    assert code == 1 and "manage.py doctor" in sentence
