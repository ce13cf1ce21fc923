"""Messages between the nodes of one training: JSON objects, one per line, over TCP. No Django, no torch.

Each end proves that it has the launch's secret before the other accepts its messages; the secret itself is not sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
from typing import Any

LARGEST_GREETING_BYTES = 4096
# Enough for a traceback of each of a thousand ranks.
LARGEST_BYTES = 128 << 20
RECEIVE_BYTES = 1 << 16
# A host that answers no keep-alive probe for this long counts as lost. A suspended process does not matter: the kernel
# answers.
IDLE_S, INTERVAL_S, PROBES = 1, 1, 3

# The interval at which an end polls its page: while messages are exchanged, and otherwise.
BUSY_PAUSE_S = 0.001
IDLE_PAUSE_S = 0.004
BUSY_FOR_S = 0.1

ANOTHER_PROTOCOL = (
    "the other end does not speak the protocol of Steersman's nodes: another program uses this port, or the nodes have "
    "different versions of steersman"
)

NodeMessage = dict[str, Any]


class NodeConnection:
    """One end of a connection. No method blocks; each raises `OSError` if the connection is broken."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        limits = {
            "TCP_KEEPIDLE": IDLE_S,
            "TCP_KEEPINTVL": INTERVAL_S,
            "TCP_KEEPCNT": PROBES,
            "TCP_USER_TIMEOUT": 1000 * (IDLE_S + INTERVAL_S * PROBES),
        }
        for name, value in limits.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._ended = False
        self.is_trusted = False

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def waits_to_send(self) -> bool:
        return bool(self._outgoing)

    def send(self, message: NodeMessage) -> None:
        """Send a message; bytes that the socket does not accept yet wait for `flush`."""
        self._outgoing += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if len(self._outgoing) > LARGEST_BYTES:
            raise ConnectionError("the other end no longer reads")
        self.flush()

    def flush(self) -> None:
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing)
            except BlockingIOError:
                return
            del self._outgoing[:sent]

    def receive(self) -> list[NodeMessage]:
        """Return the complete messages that have arrived. Raises `ConnectionError` if no more can arrive."""
        while not self._ended and len(self._incoming) <= self._largest:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                break
            self._ended = not data
            self._incoming += data
        whole = self._incoming.rfind(b"\n") + 1
        if not whole:
            if self._ended or len(self._incoming) > self._largest:
                raise ConnectionError("the other end has closed the connection, or uses another protocol")
            return []
        lines = bytes(self._incoming[:whole]).splitlines()
        del self._incoming[:whole]
        return [_parsed(line) for line in lines]

    def close(self) -> None:
        self._socket.close()

    @property
    def _largest(self) -> int:
        return LARGEST_BYTES if self.is_trusted else LARGEST_GREETING_BYTES


def proof(secret: str, sender: str, nonces: tuple[str, str]) -> str:
    """Return the proof that `sender` ("node" or "server") has the secret; each end chose one of the nonces."""
    return hmac.new(secret.encode(), "\n".join((sender, *nonces)).encode(), hashlib.sha256).hexdigest()


def is_proof(given: Any, secret: str, sender: str, nonces: tuple[str, str]) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), proof(secret, sender, nonces).encode())


def _parsed(line: bytes) -> NodeMessage:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConnectionError(ANOTHER_PROTOCOL) from error
    if not isinstance(message, dict):
        raise ConnectionError(ANOTHER_PROTOCOL)
    return message


def listen(address: str, backlog: int) -> socket.socket:
    """Listen at a free port of the interface with this address, if there is one; `backlog` connections may wait.

    A host may resolve its own name to a loopback address that no other host can reach; then it listens on all
    interfaces.
    """
    family, host = socket.AF_INET, address
    with contextlib.suppress(OSError):
        family, _, _, _, place = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0]
        host = str(place[0])
    everywhere = "::" if family == socket.AF_INET6 else ""
    if (host.startswith("127.") or host == "::1") and address not in (host, "localhost"):
        host = everywhere
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        try:
            listener.bind((host, 0))
        except OSError:
            # The address at which other hosts reach this one need not belong to an interface here.
            listener.bind((everywhere, 0))
        listener.listen(backlog)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
