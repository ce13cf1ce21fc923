"""Ports for the servers of tests. Imports nothing of the project."""

from __future__ import annotations

import random
import socket

# Below the range from which Linux gives ports to connections, and to servers that ask for any.
PORTS = range(18_000, 32_000)
# Sockets whose names claim the ports that this process was given; the kernel removes them with the process.
_CLAIMS: list[socket.socket] = []


def free_port() -> int:
    """Return a free port that no other call returns, in any process, while this process lives.

    The kernel gives a port of its own range to whoever asks first, also to a browser's connection, between this call
    and the start of the server. Raises `RuntimeError` if no port is free.
    """
    start = random.SystemRandom().randrange(len(PORTS))
    for port in (*PORTS[start:], *PORTS[:start]):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0steersman-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _CLAIMS.append(claim)
        return port
    raise RuntimeError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free")
