"""The usual Django way: pip, migrate, createsuperuser, runserver, and a training in a second terminal; no Redis."""

from __future__ import annotations

import http.cookiejar
import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.serving.test_socket_wire import RawViewer
from tests.support.stack import ROOT, Stack, wait_for

PASSWORD = "a-long-password-of-a-test"
FRAME_TIMEOUT_S = 60
LARGEST_BYTES = 64 * 1024


class Browser:
    """The parts of a browser that log in and open the run's socket: cookies and CSRF tokens."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str) -> str:
        with self.opener.open(f"{self.address}{path}", timeout=60) as reply:
            return str(reply.read().decode())

    def post(self, path: str, body: bytes, content_type: str) -> str:
        token = next(cookie.value or "" for cookie in self.cookies if cookie.name == "steersman_csrf")
        headers = {"X-CSRFToken": token, "Content-Type": content_type, "Referer": self.address}
        request = urllib.request.Request(f"{self.address}{path}", body, headers)
        with self.opener.open(request, timeout=60) as reply:
            return str(reply.read().decode())

    def log_in(self, user: str, password: str) -> None:
        self.get("/login/")
        body = urllib.parse.urlencode({"username": user, "password": password}).encode()
        assert "logout" in self.post("/login/", body, "application/x-www-form-urlencoded")

    def open_socket(self, run_id: int) -> ClientConnection:
        ticket = json.loads(self.post("/api/tickets/", json.dumps({"run": run_id}).encode(), "application/json"))
        return connect(
            f"{self.address.replace('http', 'ws')}/ws/runs/{run_id}/",
            subprotocols=["steersman.v1", f"ticket.{ticket['ticket']}"],  # type: ignore[list-item]
            origin=self.address,  # type: ignore[arg-type]
        )


@pytest.fixture
def plain() -> Iterator[Stack]:
    """A separate data folder with `runserver` on it, and neither embedded server nor Redis."""
    with Stack() as running:
        running.migrate()
        running.environment |= {"DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        running.manage("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.org")
        with (running.folder / "web.log").open("wb") as log:
            running.web = subprocess.Popen(
                running.command("runserver", f"127.0.0.1:{running.port}", "--noreload"),
                env=running.environment,
                stdout=log,
                stderr=log,
            )
        running.wait_for_web()
        yield running


def test_the_requirements_are_all_there() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index"]
    done = subprocess.run(
        [*command, "-r", "requirements.txt", "-c", "requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Would install" not in done.stdout


def test_the_page_follows_a_training_from_the_database_and_says_so(plain: Stack) -> None:
    plain.manage("recipes", "--publish")
    parameters = ("--set", "epochs=3", "--set", "threads=1")
    created = plain.manage(
        "create_run", "--quiet", "--project", "lab", "--create-project", "--user", "ada", "--recipe", "mnist",
        *parameters,
    )  # fmt: skip
    run_id = int(created.stdout)
    browser = Browser(plain.address)
    assert 'name="password"' in browser.get("/"), "nothing is shown before the login"
    browser.log_in("ada", PASSWORD)
    page = browser.get(f"/runs/{run_id}/")
    style = re.search(r'href="(/static/[^"]+\.css)"', page)
    assert style and browser.get(style[1])

    with browser.open_socket(run_id) as socket:
        hello = json.loads(socket.recv(FRAME_TIMEOUT_S))
        assert (hello["kind"], hello["seq"]) == ("hello", 0)
        training = plain.train(run_id, "--quiet")
        messages = [hello]
        while not is_end(messages[-1]):
            received = json.loads(socket.recv(FRAME_TIMEOUT_S))
            # Events in quick succession share a message.
            messages += received if isinstance(received, list) else [received]
    wait_for(lambda: training.poll() is not None, "the training's end")
    assert training.returncode == 0, plain.log()

    links = [message["link"] for message in messages if message["kind"] in ("hello", "link")]
    assert links[-1] == "database"
    seqs = [message["seq"] for message in messages if message["kind"] != "hello" and "seq" in message]
    assert seqs == list(range(1, len(seqs) + 1))
    kinds = [message["kind"] for message in messages]
    assert kinds.count("epoch") == 3
    # The viewer received these while the run trained, not all at once at the end.
    assert kinds.index("metrics") < kinds.index("epoch") < len(kinds) - 1
    assert "Warning" not in plain.log()

    # This is the portal's own server: it declines an unknown offer of compression, and limits the size of messages.
    odd = RawViewer(plain.port, run_id, "invented", compression=True, offer="permessage-deflate; novel_parameter")
    assert " 101 " in odd.head.splitlines()[0], odd.head
    odd.socket.close()
    for too_large in ("x" * (LARGEST_BYTES + 1), "字" * (LARGEST_BYTES // 3 + 1), b"x" * (LARGEST_BYTES + 1)):
        with browser.open_socket(run_id) as socket, pytest.raises(ConnectionClosed) as closed:
            socket.send(json.dumps({"kind": "ping", "echo": "x" * (LARGEST_BYTES - 100)}))
            while json.loads(socket.recv(FRAME_TIMEOUT_S))["kind"] != "pong":
                pass
            socket.send(too_large)
            while (message := json.loads(socket.recv(FRAME_TIMEOUT_S)))["kind"] != "error":
                pass
            pytest.fail(f"It is answered: {message}")
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


def is_end(message: dict[str, object]) -> bool:
    return message["kind"] == "status" and message["state"] in ("finished", "failed", "stopped")
