"""Nodes that are folders of one process, and a line between them that can be slow, cut, or gone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from steersman.agent.folders import WorkerProcess
from steersman.agent.launch.node_client import NodeClient
from steersman.agent.launch.node_server import NodeServer

HERE = "127.0.0.1"
SLEEPING = "import time; time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


class Line:
    """Forwards what is sent to its `port` after `delay_s`."""

    def __init__(self, port: int, delay_s: Callable[[], float]) -> None:
        self._to = port
        self._delay_s = delay_s
        self._listener = socket.create_server((HERE, 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self.calls = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.calls += 1
                far = socket.create_connection((HERE, self._to))
                self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                time.sleep(self._delay_s())
                target.sendall(data)
        self._close(source, target)

    def _close(self, *ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self) -> None:
        self._close(*self._ends)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


class Nodes:
    """The first node of an attempt and the nodes that join it; they leave nothing behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.line: Line | None = None
        self.server: NodeServer | None = None
        self.clients: list[NodeClient] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def begin(self, ranks: int, own: Sequence[int], delay_s: Callable[[], float] = lambda: 0.0) -> NodeServer:
        self.server = NodeServer(self.folder, ranks, own, 2, HERE).start()
        self.line = Line(self.server.port, delay_s)
        return self.server

    def client(self, node: int, ranks: Sequence[int], of: int, secret: str = "") -> NodeClient:
        assert self.server is not None and self.line is not None
        post = NodeClient(self.folder, node, ranks, of, secret or self.server.secret)
        post.connect(HERE, self.line.port)
        self.clients.append(post)
        return post

    def worker(self, rank: int, code: str, node: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        self.processes.append(process)
        if code == STUBBORN:
            assert process.stdout is not None
            process.stdout.readline()
        WorkerProcess.of(process.pid).record(node, rank)
        return process

    def close(self) -> None:
        for post in self.clients:
            post.close()
        for process in self.processes:
            process.kill()
            process.wait()
        if self.server is not None:
            self.server.close()
        if self.line is not None:
            self.line.close()
