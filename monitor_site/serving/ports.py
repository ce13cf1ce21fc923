"""Whether a TCP port is free to listen on. Imports neither Django nor Twisted."""

from __future__ import annotations

import errno
import socket


def listen_error(host: str, port: int) -> OSError | None:
    """Return why a server could not listen there now, None if it could.

    Connections left in TIME_WAIT after a kill do not count.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            return error
    return None


def cannot_listen(error: OSError, host: str, port: int, another_port: str) -> str:
    """Return a sentence about the cause of `listen_error`, with its remedy; `another_port` says how to choose one."""
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"STEERSMAN_BIND or --bind is {host}, which is no address of this host: give one of its addresses."
    if error.errno == errno.EACCES:
        return f"You have no permission to listen on port {port}: choose a port above 1023 {another_port}."
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use: stop the process that uses it, or choose another port {another_port}."
    return f"Cannot listen on {host} port {port} ({error.strerror or error}): choose another address or port."
