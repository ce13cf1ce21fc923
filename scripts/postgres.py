"""Run a command with a temporary PostgreSQL server: `scripts/postgres.py pytest tests/live`.

The server stores its files in the system's temporary folder, listens on a free port of 127.0.0.1 and ends with the
command. STEERSMAN_TEST_POSTGRES contains its address; tests create their databases there. PostgreSQL refuses to run as
root: then it runs as the user `postgres`, which Debian's package creates.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

DEBIAN_FOLDER = Path("/usr/lib/postgresql")
USER = "postgres"
START_TIMEOUT_S = 60.0
POLL_S = 0.05
EXIT_BAD_INPUT = 2
LOG_LINES_SHOWN = 8
# Temporary data need not reach the disk; commits still survive when the server ends. Each process of the tests holds
# some connections.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


class PostgresError(Exception):
    """The server cannot be started; the text says what to do."""


def programs() -> Path:
    """Return the folder of the newest installed PostgreSQL. Raises `PostgresError` if there is none."""
    versions = [path for path in DEBIAN_FOLDER.glob("*/bin/initdb") if path.parts[-3].isdecimal()]
    if versions:
        return max(versions, key=lambda path: int(path.parts[-3])).parent
    installed = shutil.which("initdb")
    if installed is None:
        raise PostgresError("PostgreSQL is not installed: apt-get install postgresql, or put its initdb on the PATH.")
    return Path(installed).resolve().parent


def as_server_user(command: Sequence[str | Path]) -> list[str]:
    """Return the command that runs `command` as a user that PostgreSQL accepts."""
    words = [str(word) for word in command]
    # setpriv replaces itself by the command. A process in between would stop itself when a test suspends the server.
    change = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--"]
    return [*change, *words] if os.geteuid() == 0 else words


class Server:
    """A PostgreSQL server with temporary files. As a context manager, it stops the server and removes the files at the
    end.

    `start` and `stop` raise `PostgresError`.
    """

    def __init__(self) -> None:
        self._programs = programs()
        self._place = Path(tempfile.mkdtemp(prefix="steersman-postgres-"))
        self.password = secrets.token_urlsafe(24)
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"postgres://{USER}:{self.password}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Server:
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self._place, ignore_errors=True)

    def start(self) -> None:
        """Start the server, and return when it answers."""
        with (self._place / "log").open("ab") as log:
            self.process = subprocess.Popen(
                as_server_user(
                    [self._programs / "postgres", "-D", self._place / "data", "-p", str(self.port), *_options()]
                ),
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        until = time.monotonic() + START_TIMEOUT_S
        while _run(ready, check=False):
            if self.process.poll() is not None or time.monotonic() > until:
                said = _last((self._place / "log").read_text(errors="replace"))
                raise PostgresError(f"PostgreSQL does not answer. Its output ends with: {said}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the server at once, as a power cut would. Committed transactions are there at the next start."""
        if self.process is None:
            return
        command = [self._programs / "pg_ctl", "-D", self._place / "data", "-m", "immediate", "stop"]
        _run(as_server_user(command), check=False)
        self.process.wait()
        self.process = None

    def _make(self) -> None:
        """Create the files of a server that only accepts logins by password."""
        secret = self._place / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self._place, secret):
                shutil.chown(path, USER)
        initdb = [self._programs / "initdb", "-D", self._place / "data", "-U", USER, "--pwfile", secret]
        _run(as_server_user([*initdb, "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]))
        secret.unlink()


def _options() -> list[str]:
    return [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]


def _run(command: Sequence[str | Path], check: bool = True) -> int:
    # In a folder that the server's user may not enter, every program of the server would print a warning.
    done = subprocess.run([str(word) for word in command], cwd="/", capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise PostgresError(f"`{command[0]}` failed. Its output ends with: {_last(done.stdout + done.stderr)}")
    return done.returncode


def _last(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_LINES_SHOWN:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(command: list[str]) -> int:
    """Run `command`; return its exit status, or 2 if the command or the server cannot be started."""
    if not command:
        print("Give the command to run: scripts/postgres.py .venv/bin/pytest", file=sys.stderr)
        return EXIT_BAD_INPUT
    # `kill` must also stop the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with Server() as server:
            variables = os.environ | {"STEERSMAN_TEST_POSTGRES": server.address}
            return subprocess.run(command, env=variables, check=False).returncode
    except (PostgresError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
