"""The real host side of one attempt, which reaches its record side by a Unix socket. There is no Django here.

usage: python -m tests.chaos.link.host_end FOLDER ADDRESS
"""

from __future__ import annotations

import importlib.util
import logging
import socket
import sys
import threading
from pathlib import Path

from steersman.agent.host_side.host_side import HostSide
from steersman.agent.host_side.socket_link import SocketLink
from steersman.agent.host_side.surroundings import HostSettings
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.reporting.report_sequence import StoredProgress
from steersman.agent.supervise.interrupts import Interrupts
from steersman.messages.ended import Concluded


class Silence:
    """A terminal without a person."""

    def show(self, progress: StoredProgress) -> None: ...
    def console(self, lines: list[str]) -> None: ...
    def unfinished(self, lines: list[str]) -> None: ...
    def say(self, text: str) -> None: ...
    def end(self, progress: StoredProgress, end: Concluded) -> None:
        print(end.state)

    def close(self) -> None: ...


def main() -> int:
    assert importlib.util.find_spec("django") is None, "this end is to show that it needs no Django"
    logging.basicConfig(level=logging.INFO)
    folder, address = Path(sys.argv[1]), sys.argv[2]

    def connect() -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(address)
        except OSError:
            found.close()
            raise
        return found

    settings = HostSettings(folder, folder, 0.02, 60.0, 64 << 20)
    group = WorkerGroup.adopted(folder, 1)
    host = HostSide(folder, group, SocketLink(connect), Silence(), Interrupts(), settings, threading.Event())
    return host.follow()


if __name__ == "__main__":
    sys.exit(main())
