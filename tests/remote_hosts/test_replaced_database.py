"""A process whose database file was replaced ends, so that the next one opens the new file."""

from __future__ import annotations

import os
import signal

import pytest

from steersman.files.private import FileIdentity
from trainer.remote_hosts import host_sockets
from trainer.remote_hosts.host_sockets import DatabaseReplaced, HostSockets


def test_a_missing_file_is_waited_for_and_another_one_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    found: FileIdentity | None = (1, 1)
    monkeypatch.setattr(host_sockets, "database_file", lambda: found)
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(host_sockets.os, "kill", lambda pid, number: signals.append((pid, number)))
    shared = HostSockets()
    shared.check_database()
    found = None
    with pytest.raises(FileNotFoundError):
        shared.check_database()
    assert not signals
    found = (1, 2)
    with pytest.raises(DatabaseReplaced):
        shared.check_database()
    assert signals == [(os.getpid(), signal.SIGTERM)]
