"""The socket of the embedded server: no process talks to another user's server there, at any connect."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from monitor_site.redis_connection import OwnPlainConnection, OwnSocketLayer
from monitor_site.redis_socket import check_peer, check_socket, is_embedded, socket_path, socket_url
from monitor_site.serving.doctor import services
from monitor_site.serving.embedded_server import EmbeddedServer, EmbeddedServerError, find_server
from tests.support.stack import Stack, seed_stack, wait_for

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def be_nobody() -> None:
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    folder.mkdir(0o700)
    yield folder
    shutil.rmtree(socket_path(folder).parent, ignore_errors=True)


@pytest.fixture
def impostor(data: Path) -> Iterator[Path]:
    """A real server of another user, which created the socket before the embedded server could."""
    path = socket_path(data)
    path.parent.mkdir(0o755)
    os.chown(path.parent, NOBODY, NOBODY)
    # Another user cannot read this user's folder with the bundled program.
    with OthersServer(path, Path(shutil.copy(find_server().path, path.parent / "server"))):
        yield path


class OthersServer:
    """A server of the user `nobody` on a socket that every user may open."""

    def __init__(self, path: Path, program: Path) -> None:
        program.chmod(0o755)
        words = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "777", "--save", "", "--dir", "/tmp"]
        self.path = path
        self.process = subprocess.Popen(
            [str(program), *words], preexec_fn=be_nobody, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> None:
        wait_for(self.path.exists, "the other user's server")

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()


def layer(path: Path) -> OwnSocketLayer:
    return OwnSocketLayer(hosts=[{"address": socket_url(path), "socket_connect_timeout": 2, "socket_timeout": 5}])


def test_nobody_speaks_to_the_server_of_another_user(impostor: Path, data: Path):
    # It does answer: a client without the check would trust it.
    with redis.Redis(unix_socket_path=str(impostor), socket_timeout=5) as careless:
        assert careless.ping()

    async def send() -> None:
        with pytest.raises(redis.ConnectionError, match="must be a folder that only you can enter"):
            await layer(impostor).group_send("run.1", {"type": "run.event"})

    asyncio.run(send())
    assert not EmbeddedServer(data).answers()
    with pytest.raises(EmbeddedServerError, match="remove it and try again"):
        EmbeddedServer(data).start()
    pool = redis.ConnectionPool(connection_class=OwnPlainConnection, path=str(impostor))
    with pytest.raises(redis.ConnectionError), redis.Redis.from_pool(pool) as client:
        client.ping()


def test_it_is_looked_at_again_when_a_connection_is_made_again(data: Path):
    """The right server runs at the start; then it ends, and another user replaces it in a folder that was opened."""
    ours = EmbeddedServer(data)
    ours.start()
    path, folder = ours.socket, ours.socket.parent

    async def both() -> None:
        over = layer(path)
        await over.group_send("run.1", {"type": "run.event"})
        ours.stop()
        os.chown(folder, NOBODY, NOBODY)
        with OthersServer(path, Path(shutil.copy(find_server().path, folder / "server"))):
            # Everything except the process behind the socket is correct again.
            os.chown(folder, 0, 0)
            os.chown(path, 0, 0)
            check_socket(path)
            with contextlib.suppress(redis.ConnectionError):
                # The previous connection, which turns out to be broken.
                await over.group_send("run.1", {"type": "run.event"})
            with pytest.raises(redis.ConnectionError, match=f"a process of user {NOBODY} listens"):
                await over.group_send("run.1", {"type": "run.event"})

    try:
        asyncio.run(both())
    finally:
        ours.stop()


def test_a_link_a_file_or_an_open_folder_is_not_our_socket(data: Path, tmp_path: Path):
    path = socket_path(data)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o700)
    path.parent.symlink_to(elsewhere)
    with pytest.raises(PermissionError, match="only you can enter"):
        check_socket(path)
    path.parent.unlink()
    path.parent.mkdir(0o700)
    path.touch()
    with pytest.raises(PermissionError, match="is not a socket, or belongs to another user"):
        check_socket(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        check_socket(path)
        path.parent.chmod(0o750)
        with pytest.raises(PermissionError, match="only you can enter"):
            check_socket(path)
        path.parent.chmod(0o700)
        os.chown(path, NOBODY, -1)
        with pytest.raises(PermissionError, match="is not a socket, or belongs to another user"):
            check_socket(path)


def test_our_own_process_is_let_through():
    one, other = socket.socketpair()
    with one, other:
        check_peer(one)


def test_the_doctor_names_the_folder_of_another_user(impostor: Path, data: Path, settings):
    settings.STEERSMAN_DATA, settings.STEERSMAN_REDIS_URL = data, socket_url(impostor)
    found = services.redis_server()
    assert (found.level, str(impostor.parent) in found.text) == ("problem", True)


def test_a_forged_event_reaches_no_portal_and_one_line_says_why(impostor: Path, data: Path):
    """Portal and training of a data folder whose socket another user holds run without it, and report that once."""
    with Stack(data) as stack:
        seed_stack(stack)
        stack.start_web()
        assert is_embedded(socket_url(impostor), data)
        with redis.Redis(unix_socket_path=str(impostor), decode_responses=True, socket_timeout=5) as other:
            stack.manage("create_run", "--quiet", "--project", "lab", "--recipe", "digits", "--set", "epochs=2")
            assert stack.train(1).wait(120) == 0
            # Neither portal nor training sent a command or subscribed.
            assert other.pubsub_channels() == []
            assert other.info("commandstats").get("cmdstat_publish") is None
        said = (stack.folder / "train.log").read_text()
        assert said.count("must be a folder that only you can enter") == 1
        assert "the channel layer is unavailable" in said


def test_a_temporary_folder_of_any_name_holds_the_socket(data: Path, monkeypatch: pytest.MonkeyPatch):
    place = Path(tempfile.mkdtemp(prefix="lab #1? 100%20 "))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    ours = EmbeddedServer(data)
    try:
        ours.start()
        assert ours.socket.is_relative_to(place)
        asyncio.run(layer(ours.socket).group_send("run.1", {"type": "run.event"}))
        # As a connection of other tools by the address.
        with redis.Redis.from_url(ours.url, socket_timeout=5) as client:
            assert client.ping()
    finally:
        ours.stop()
        shutil.rmtree(place)
