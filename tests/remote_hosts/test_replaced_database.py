"""A process whose database file was replaced ends, so that the next one opens the new file."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from trainer.remote_hosts import host_sockets
from trainer.remote_hosts.host_sockets import DatabaseReplaced, HostSockets


def test_a_missing_file_is_waited_for_and_another_one_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, moved = tmp_path / "db.sqlite3", tmp_path / "moved"
    file.touch()
    monkeypatch.setattr(host_sockets, "database_path", lambda: file)
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(host_sockets.os, "kill", lambda pid, number: signals.append((pid, number)))
    shared = HostSockets()
    shared.check_database()
    file.rename(moved)
    with pytest.raises(FileNotFoundError):
        shared.check_database()
    moved.rename(file)
    shared.check_database()
    assert not signals
    file.rename(moved)
    file.touch()
    with pytest.raises(DatabaseReplaced):
        shared.check_database()
    assert signals == [(os.getpid(), signal.SIGTERM)]
