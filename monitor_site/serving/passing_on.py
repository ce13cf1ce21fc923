"""Passes the connections of training hosts from the portal to `manage.py record`, where both share one port.

The portal reads the request of a connection. If it asks for the socket of training hosts, the portal sends the
connection itself, as a file descriptor, and the request through a Unix socket, and closes its own copy. No message of a
training host passes through a process that serves pages, and neither process waits for the other. Imports no reactor.
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

logger = logging.getLogger(__name__)

PATH = "/ws/hosts/"
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
    requests = tuple(f"GET {place}{PATH}".encode() for place in {prefix, ""})
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
            logger.log(level, "training hosts cannot be connected: manage.py record does not answer (%s)", error)
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
