"""`train` must end while the database is away or does not respond: the long forms of `tests/control/test_ends.py`."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.control.test_ends import INTERRUPTED, interrupt_twice
from tests.control.test_train import is_gone, start_endless
from tests.support import postgres
from tests.support.locked_database import write_locked
from tests.support.stack import Stack, rows, run_row, seed_stack, wait_for


class Line:
    """Carries the bytes between a supervisor and PostgreSQL. While frozen, it holds them back."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        self._flows.clear()

    def close(self) -> None:
        self._flows.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            behind = socket.create_connection(("127.0.0.1", self._behind))
            for one, other in ((front, behind), (behind, front)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 16):
                self._flows.wait()
                other.sendall(data)
        except OSError:
            pass
        other.close()


@contextmanager
def frozen_later(stack: Stack) -> Iterator[Line]:
    address = urlsplit(stack.environment["STEERSMAN_DATABASE_URL"])
    assert address.port is not None
    line = Line(address.port)
    place = f"{address.username}:{address.password}@127.0.0.1:{line.port}"
    through = urlunsplit(address._replace(netloc=place))
    direct, stack.environment["STEERSMAN_DATABASE_URL"] = stack.environment["STEERSMAN_DATABASE_URL"], through
    try:
        yield line
    finally:
        stack.environment["STEERSMAN_DATABASE_URL"] = direct
        line.close()


def test_it_ends_on_sigterm_though_the_database_stays_away(offline_stack):
    run_id, supervisor, worker = start_endless(offline_stack)
    with write_locked(offline_stack, run_id):
        supervisor.send_signal(signal.SIGTERM)
        wait_for(lambda: is_gone(worker), "the worker to end", timeout_s=60)
        assert supervisor.wait(60) == INTERRUPTED
    offline_stack.manage("train", "--run-id", str(run_id), "--adopt")
    assert run_row(offline_stack, run_id)["state"] == "stopped"
    assert run_row(offline_stack, run_id)["step"] > 3


@pytest.mark.skipif(not postgres.server(), reason="only a server can be frozen between two statements")
@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C twice"])
def test_it_ends_though_the_database_answers_nothing_at_all(how):
    with Stack() as stack:
        seed_stack(stack)
        with frozen_later(stack) as line:
            run_id, supervisor, worker = start_endless(stack)
            line.freeze()
            if how == "SIGTERM":
                supervisor.send_signal(signal.SIGTERM)
                assert supervisor.wait(90) == INTERRUPTED
            else:
                interrupt_twice(stack, run_id, supervisor)
            wait_for(lambda: is_gone(worker), "the worker to end", timeout_s=60)
        direct = stack.environment["STEERSMAN_DATABASE_URL"]
        assert postgres.execute(direct, "SELECT state FROM runs_run WHERE id = ?", (run_id,)) == [{"state": "running"}]
        stack.manage("train", "--run-id", str(run_id), "--adopt")
        assert rows(stack, "SELECT state FROM runs_run WHERE id = ?", run_id)[0]["state"] in ("stopped", "failed")
