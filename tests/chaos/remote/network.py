"""A network namespace for a training host, with one cable to this machine: only root can make one, on Linux."""

from __future__ import annotations

import os
import shutil
import subprocess

OURS, THEIRS = "10.213.77.1", "10.213.77.2"


class NotPermitted(Exception):
    """No network namespace can be made here. The text gives the reason."""


class Network:
    """What runs by `prefix` sees nothing of this machine but the address `OURS`."""

    def __init__(self) -> None:
        self._name = f"steersman-{os.getpid()}"
        self._device = f"stm{os.getpid() % 1_000_000}"
        if not shutil.which("ip"):
            raise NotPermitted("the program ip is missing: apt-get install iproute2")
        self._ip("netns", "add", self._name)
        self.prefix = ["ip", "netns", "exec", self._name]
        try:
            self._ip("link", "add", self._device, "type", "veth", "peer", "name", "portal", "netns", self._name)
            self._ip("addr", "add", f"{OURS}/30", "dev", self._device)
            self._ip("link", "set", self._device, "up")
            self._ip("-n", self._name, "addr", "add", f"{THEIRS}/30", "dev", "portal")
            self._ip("-n", self._name, "link", "set", "portal", "up")
        except NotPermitted:
            self.close()
            raise

    def cut(self) -> None:
        """Pull the cable: whatever is sent disappears without a word."""
        self._ip("link", "set", self._device, "down")

    def mend(self) -> None:
        self._ip("link", "set", self._device, "up")

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self._name], capture_output=True)

    def _ip(self, *words: str) -> None:
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
        if done.returncode:
            raise NotPermitted(f"ip {' '.join(words)}: {done.stderr.strip()}")
