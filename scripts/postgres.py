"""Run a command with a PostgreSQL server of its own: `scripts/postgres.py pytest tests/test_feed.py`.

The server lies in a folder of the system's temporary folder, listens on a free port of 127.0.0.1 and is gone with
the command. COXSWAIN_TEST_POSTGRES tells the command its address; tests make their databases there. PostgreSQL
refuses root: as root it runs as the user `postgres`, which Debian's package makes.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DEBIAN_FOLDER = Path("/usr/lib/postgresql")
USER = "postgres"
START_TIMEOUT_S = 60.0
POLL_S = 0.05
EXIT_BAD_INPUT = 2
LOG_LINES_SHOWN = 8
# Data that nobody keeps need not reach the disk. Each process of the tests holds some connections.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


class PostgresError(Exception):
    """The server cannot be had; the text is a sentence that says what to do."""


def programs() -> Path:
    """Return the folder of the newest installed PostgreSQL. Raises `PostgresError` where there is none."""
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
    return ["runuser", "-u", USER, "--", *words] if os.geteuid() == 0 else words


@contextmanager
def server() -> Iterator[str]:
    """Start a server and yield its address, postgres://…; on the way out it is stopped and its files are removed.

    Raises `PostgresError`.
    """
    folder = programs()
    place = Path(tempfile.mkdtemp(prefix="coxswain-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(place, USER)
        password = secrets.token_urlsafe(24)
        _make(folder, place, password)
        port = _free_port()
        process = subprocess.Popen(
            as_server_user([folder / "postgres", "-D", place / "data", "-p", str(port), *_options()]),
            stdout=subprocess.DEVNULL,
            stderr=(place / "log").open("wb"),
            start_new_session=True,
        )
        try:
            _wait(folder, port, process, place / "log")
            yield f"postgres://{USER}:{password}@127.0.0.1:{port}/postgres"
        finally:
            _run(as_server_user([folder / "pg_ctl", "-D", place / "data", "-m", "immediate", "stop"]), check=False)
            process.wait()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _make(folder: Path, place: Path, password: str) -> None:
    """Make the files of a server whose only way in is `password`."""
    secret = place / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    if os.geteuid() == 0:
        shutil.chown(secret, USER)
    command = [folder / "initdb", "-D", place / "data", "-U", USER, "--pwfile", secret, "-A", "scram-sha-256"]
    _run(as_server_user([*command, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]))
    secret.unlink()


def _options() -> list[str]:
    return [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]


def _wait(folder: Path, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ready = [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise PostgresError(f"PostgreSQL ended at once. It said: {_last(log.read_text(errors='replace'))}")
        if _run(ready, check=False) == 0:
            return
        time.sleep(POLL_S)
    raise PostgresError(f"PostgreSQL did not answer in time. It said: {_last(log.read_text(errors='replace'))}")


def _run(command: Sequence[str | Path], check: bool = True) -> int:
    # A folder that the server's user may not enter would make every program of it complain.
    done = subprocess.run([str(word) for word in command], cwd="/", capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise PostgresError(f"`{command[0]}` failed. It said: {_last(done.stdout + done.stderr)}")
    return done.returncode


def _last(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LOG_LINES_SHOWN:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(command: list[str]) -> int:
    """Return the exit status of `command`, 2 where it or the server cannot be started."""
    if not command:
        print("Give the command to run: scripts/postgres.py .venv/bin/pytest", file=sys.stderr)
        return EXIT_BAD_INPUT
    # An end by `kill` also has to stop the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with server() as address:
            return subprocess.run(command, env=os.environ | {"COXSWAIN_TEST_POSTGRES": address}, check=False).returncode
    except (PostgresError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
