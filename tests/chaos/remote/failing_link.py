"""The network between a training host and its portal: a port that passes bytes on, until it is down."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress

from tests.chaos.remote.repeated_frames import RepeatedFrames
from tests.support.stack import free_port


class FailingLink:
    """Listens on `port`, and leads each connection to the port `behind` unless the link is down.

    Some of the messages of hosts are repeated; `repeated` counts them.
    """

    def __init__(self, behind: int, rng: random.Random, address: str = "127.0.0.1") -> None:
        self.port = free_port()
        self.repeated = 0
        self._behind, self._rng = behind, rng
        self._is_down = False
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((address, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and accept none."""
        with self._lock:
            self._is_down = True
            for end in self._ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        with self._lock:
            self._is_down = False

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                host, _ = self._listener.accept()
                threading.Thread(target=self._lead, args=(host,), daemon=True).start()

    def _lead(self, host: socket.socket) -> None:
        with host, suppress(OSError):
            with self._lock:
                if self._is_down:
                    return
            with socket.create_connection(("127.0.0.1", self._behind)) as portal:
                with self._lock:
                    self._ends |= {host, portal}
                back = threading.Thread(target=self._carry, args=(portal, host), daemon=True)
                back.start()
                self._carry(host, portal, RepeatedFrames(self._rng))
                back.join()
                with self._lock:
                    self._ends -= {host, portal}

    def _carry(self, source: socket.socket, to: socket.socket, frames: RepeatedFrames | None = None) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                to.sendall(data if frames is None else frames.take(data))
        if frames is not None:
            with self._lock:
                self.repeated += frames.count
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
