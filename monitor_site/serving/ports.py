"""Whether a TCP port is free to listen on. Imports neither Django nor Twisted."""

from __future__ import annotations

import socket


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now; connections left in TIME_WAIT after a kill do not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError:
            return False
    return True
