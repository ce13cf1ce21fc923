"""The embedded server: which program runs, where it listens, how it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from monitor_site.serving import embedded_server
from monitor_site.serving.embedded_server import EmbeddedServer, EmbeddedServerError


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """An empty folder for the search path, so that the bundled server is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture
def server(tmp_path: Path, programs: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "data", search_path=str(programs))
    yield server
    server.stop()
    shutil.rmtree(server.socket.parent, ignore_errors=True)


def install(folder: Path, script: str) -> None:
    program = folder / "redis-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(server.socket), socket_timeout=60)


def has_ended(pid: int) -> bool:
    try:
        psutil.wait_procs([psutil.Process(pid)], timeout=60)
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_it_answers_on_a_socket_in_a_private_folder(server: EmbeddedServer) -> None:
    assert server.start() is True
    assert server.answers()
    assert server.socket.parent.stat().st_mode & 0o777 == 0o700
    connections = psutil.Process(server.pid).net_connections("inet")
    assert connections == []


def test_it_passes_announcements_but_refuses_scripts_and_administration(server: EmbeddedServer) -> None:
    server.start()
    with client(server) as redis_client, redis_client.pubsub() as subscription:
        subscription.subscribe("group")
        assert subscription.get_message(timeout=60)["type"] == "subscribe"
        redis_client.publish("group", "hello")
        assert subscription.get_message(timeout=60)["data"] == b"hello"
        for command in (["EVAL", "return 1", "0"], ["CONFIG", "GET", "dir"], ["FLUSHALL"], ["SHUTDOWN"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                redis_client.execute_command(*command)


def test_it_leaves_nothing_behind_when_stopped(server: EmbeddedServer) -> None:
    server.start()
    pid = server.pid
    assert pid is not None
    server.stop()
    assert has_ended(pid)
    assert not server.socket.exists()
    assert not server.is_alive


def test_it_uses_the_one_that_already_runs_and_does_not_end_it(server: EmbeddedServer, tmp_path: Path) -> None:
    server.start()
    second = EmbeddedServer(tmp_path / "data", search_path="")
    assert second.start() is False
    assert second.pid is None
    second.stop()
    assert server.answers()


def test_it_starts_again_after_it_was_killed(server: EmbeddedServer) -> None:
    server.start()
    first = server.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert has_ended(first)
    assert not server.is_alive
    assert server.start() is True
    assert server.answers()
    assert server.pid != first


def test_it_takes_the_place_of_its_own_that_hangs(server: EmbeddedServer) -> None:
    server.start()
    hung = server.pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)
    assert server.start() is True
    assert has_ended(hung)
    assert server.answers()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties a child to its parent on Linux only")
def test_it_dies_with_its_parent(server: EmbeddedServer, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; "
        "from monitor_site.serving.embedded_server import EmbeddedServer\n"
        f"server = EmbeddedServer(Path({str(tmp_path / 'data')!r}), search_path='')\n"
        "server.start(); print(server.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert has_ended(int(done.stdout))
    assert not server.answers()


def test_it_says_so_where_others_may_enter_its_folder(server: EmbeddedServer) -> None:
    server.socket.parent.mkdir(mode=0o755)
    server.socket.parent.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="remove it and try again"):
        server.start()


def test_it_refuses_a_binary_that_it_does_not_know(tmp_path: Path) -> None:
    changed = tmp_path / "valkey-server"
    changed.write_bytes(embedded_server.bundled_path().read_bytes() + b"\0")
    with pytest.raises(EmbeddedServerError, match="not the expected server"):
        embedded_server.verify_bundled(changed, embedded_server.platform_name())


def test_it_asks_for_an_installed_server_where_none_is_bundled(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="install redis-server or valkey-server"):
        embedded_server.verify_bundled(tmp_path / "valkey-server", "linux-riscv64")


def test_it_prefers_an_installed_server(server: EmbeddedServer, programs: Path) -> None:
    install(programs, f'exec "{embedded_server.bundled_path()}" "$@"')
    assert embedded_server.find_server(str(programs)).origin == "installed"
    server.start()
    assert server.answers()


def test_it_tells_what_a_server_that_does_not_start_said(server: EmbeddedServer, programs: Path) -> None:
    install(programs, "echo no room today; exit 1")
    with pytest.raises(EmbeddedServerError, match="no room today"):
        server.start()
