"""Passes the connections of training hosts from the portal to `manage.py record`, where both share one port.

The portal reads the request of a connection. If it asks for the socket of training hosts, the portal sends the
connection itself, as a file descriptor, and the request through a Unix socket, and closes its own copy. No socket of a
training host passes through a process that serves pages, and neither process waits for the other. A request without an
upgrade is passed on in the same way, and its connection ends with the answer. Imports no reactor.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from monitor_site.redis_socket import check_peer, check_socket, socket_path
from steersman.wire.framing import LARGEST_PIECE_BYTES

logger = logging.getLogger(__name__)

PATH = "/ws/hosts/"
METHODS = ("GET", "PUT", "POST", "DELETE")
# Twisted has read the body, however it was sent.
OF_THE_BODY = frozenset({b"connection", b"content-length", b"transfer-encoding", b"expect"})
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def record_socket_path(data: Path) -> Path:
    """Return the Unix socket on which `manage.py record` takes connections for the data folder `data`."""
    return socket_path(data).with_name("record.sock")


def passing_on(data: Path, prefix: str) -> Callable[[Any, bytes], bool]:
    """Return a function that passes on the connections of training hosts.

    The function takes the transport of a connection and its request. It returns whether this process must not serve
    the connection, because it was passed on or refused.
    """
    path = record_socket_path(data)
    # A proxy may remove the prefix.
    requests = tuple(f"{method} {place}{PATH}".encode() for place in {prefix, ""} for method in METHODS)
    is_unavailable = False

    def pass_on(transport: Any, request: bytes) -> bool:
        nonlocal is_unavailable
        if not request.startswith(requests):
            return False
        try:
            _send(path, transport.getHandle(), request)
        except OSError as error:
            # Hosts repeat their attempts, so only the first failure is logged.
            level = logging.DEBUG if is_unavailable else logging.WARNING
            logger.log(
                level,
                "training hosts cannot connect, because manage.py record does not answer (%s): start that command, "
                "or read its log. The hosts keep their records and try again",
                error,
            )
            is_unavailable = True
            transport.write(UNAVAILABLE)
            transport.loseConnection()
            return True
        is_unavailable = False
        # Closed without a shutdown, which would end the connection for the other process too.
        transport.stopReading()
        transport.stopWriting()
        transport.getHandle().close()
        transport.connectionLost(Failure(ConnectionDone()))
        return True

    return pass_on


def whole_request(request: Any) -> bytes | None:
    """Return a plain request that Twisted has read, as bytes; None if it is too large for a training host.

    It is the last one of its connection: a proxy may send requests of others over the same one.
    """
    request.content.seek(0)
    body: bytes = request.content.read(LARGEST_PIECE_BYTES + 1)
    request.content.seek(0)
    if len(body) > LARGEST_PIECE_BYTES:
        return None
    lines = [b"%s %s HTTP/1.1" % (request.method, request.uri)]
    for name, values in request.requestHeaders.getAllRawHeaders():
        if name.lower() not in OF_THE_BODY:
            lines += [b"%s: %s" % (name, value) for value in values]
    lines += [b"Connection: close", b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _send(path: Path, connection: socket.socket, request: bytes) -> None:
    """Send a connection and its request. Raises `OSError`, also if the other process is too busy to take it now."""
    check_socket(path)
    with socket.socket(socket.AF_UNIX) as channel:
        channel.setblocking(False)
        channel.connect(str(path))
        check_peer(channel)
        sent = socket.send_fds(channel, [request], [connection.fileno()])
        if sent < len(request):
            channel.sendall(request[sent:])
