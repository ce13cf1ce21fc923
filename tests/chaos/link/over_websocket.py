"""The same host side, whose messages reach a portal and `manage.py record` over a WebSocket; both are killed too."""

from __future__ import annotations

import random
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

import steersman
from steersman.wire.framing import Frames, framed
from tests.chaos.interface import Interface
from tests.support.stack import Stack

RETRY_PAUSE_S = 0.1


class WebSocketBridge:
    """Listens on a Unix socket, and carries the messages of each connection over a WebSocket of its own."""

    def __init__(self, path: Path, address: str, headers: dict[str, str]) -> None:
        self._address, self._headers = address, headers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            host, _ = self._listener.accept()
            threading.Thread(target=self._carry, args=(host,), daemon=True).start()

    def _carry(self, host: socket.socket) -> None:
        try:
            portal = connect(
                self._address, subprotocols=["steersman.host.v1"],  # type: ignore[list-item]
                additional_headers=self._headers, compression=None, max_size=None,
            )  # fmt: skip
        except (OSError, WebSocketException, TimeoutError):
            host.close()
            return
        threading.Thread(target=self._bring_back, args=(portal, host), daemon=True).start()
        frames = Frames()
        with portal, suppress(OSError, WebSocketException):
            while data := host.recv(1 << 18):
                for message in frames.take(data):
                    portal.send(message)

    def _bring_back(self, portal: ClientConnection, host: socket.socket) -> None:
        with suppress(OSError, WebSocketException):
            for message in portal:
                assert isinstance(message, bytes)
                host.sendall(framed(message))
        with suppress(OSError):
            host.shutdown(socket.SHUT_RDWR)
        host.close()


class Viewer:
    """Somebody who has the page of the run open, whatever is killed: the portal asks for more reports then."""

    def __init__(self, address: str, token: str) -> None:
        self._address, self._headers = address, {"Authorization": f"Bearer {token}"}
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            with (
                suppress(OSError, WebSocketException, TimeoutError),
                connect(self._address, additional_headers=self._headers, compression=None, max_size=None) as portal,
            ):
                for _ in portal:
                    pass
            time.sleep(RETRY_PAUSE_S)


class OverWebSocket(Interface):
    """One run of a training host without access to the database."""

    ends = ("host", "record", "portal")

    def __init__(self, stack: Stack, rng: random.Random, points: int) -> None:
        stack.start_web()
        super().__init__(stack, rng, points)

    def _open(self) -> Any:
        """Open the run by a token, and lead the way to the portal."""
        from django.contrib.auth.models import User

        from runs.access.tokens import create_token
        from runs.launches.opening import Launch, open_launch
        from runs.models import Attempt, Project
        from runs.recording.lifecycle import Holder, Lease

        user, project = User.objects.get(username="operator"), Project.objects.get()
        token, value = create_token(user, project, "train", name="host")
        opened = open_launch(token, Launch("interface", "0", Holder("host", "boot", 1), []))
        attempt = Attempt.objects.get(run=opened.run, number=opened.attempt)
        sockets = self._stack.address.replace("http", "ws")
        headers = {"Authorization": f"Bearer {value}", "Steersman-Version": steersman.__version__}
        self._bridge = WebSocketBridge(
            self._behind, f"{sockets}/ws/hosts/?run={opened.run.pk}&attempt={opened.attempt}", headers
        )
        _, viewing = create_token(user, project, "view", name="viewer")
        self._viewer = Viewer(f"{sockets}/ws/runs/{opened.run.pk}/", viewing)
        return Lease(opened.run.pk, attempt.pk, attempt.number)

    def _start_end(self, end: str) -> subprocess.Popen[bytes]:
        if end == "host":
            return super()._start_end(end)
        if end == "portal":
            words = ["serve_portal", "--port", str(self._stack.port)]
            if self._stack.web is not None:
                first, self._stack.web = self._stack.web, None
                assert isinstance(first, subprocess.Popen)
                self._stack.trainings.append(first)
                return first
        else:
            words = ["record"]
        process = subprocess.Popen(
            self._stack.command(*words), env=self._stack.environment, stdout=self._log, stderr=self._log
        )
        self._stack.trainings.append(process)
        return process
