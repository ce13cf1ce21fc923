"""The network between a training host and its portal: a port that passes bytes on, until it is down."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress

from tests.chaos.remote.repeated_frames import REPEATED_PART, RepeatedFrames
from tests.support.stack import free_port


class FailingLink:
    """Listens on `port`, and leads each connection to the port `behind` unless the link is down.

    Some of the messages of hosts are repeated; `repeated` counts them. If hosts send plain requests only, some requests
    are sent once more on a connection of their own.
    """

    def __init__(
        self, behind: int, rng: random.Random, address: str = "127.0.0.1", *, only_requests: bool = False
    ) -> None:
        self.port = free_port()
        self._only_requests = only_requests
        self._requests = 0
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
        request = b""
        with host, suppress(OSError):
            with self._lock:
                if self._is_down:
                    return
            with socket.create_connection(("127.0.0.1", self._behind)) as portal:
                with self._lock:
                    self._ends |= {host, portal}
                back = threading.Thread(target=self._carry, args=(portal, host), daemon=True)
                back.start()
                if self._only_requests:
                    request = self._carry_request(host, portal)
                else:
                    self._carry(host, portal, RepeatedFrames(self._rng))
                back.join()
                with self._lock:
                    self._ends -= {host, portal}
        if request and self._is_repeated():
            self._repeat(request)

    def _is_repeated(self) -> bool:
        """Return whether the next request is repeated: the fifth, and some others."""
        with self._lock:
            self._requests += 1
            return self._requests == 5 or self._rng.random() < REPEATED_PART

    def _carry_request(self, host: socket.socket, portal: socket.socket) -> bytes:
        """Pass the request on and return it."""
        request = b""
        with suppress(OSError):
            while data := host.recv(1 << 16):
                portal.sendall(data)
                request += data
        with suppress(OSError):
            portal.shutdown(socket.SHUT_RDWR)
        return request

    def _repeat(self, request: bytes) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._behind)) as portal:
            portal.sendall(request)
            while portal.recv(1 << 16):
                pass
            with self._lock:
                self.repeated += 1

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
