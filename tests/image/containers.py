"""Run a container of an image as an engine would: its entry point, user, variables and a volume at /data.

Without an engine, a container shares the network and the process numbers of this machine, and remaining processes must
be ended explicitly.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil

from tests.image import buildah
from tests.support.stack import wait_for

USER = 10001
COMMAND_TIMEOUT_S = 120


class Container:
    """One container of `image`; a context manager that ends and removes it."""

    def __init__(self, image: str, **variables: str) -> None:
        self.image, self.variables = image, variables
        self.name = buildah.call("from", "--pull-never", image)
        self.volume = Path(tempfile.mkdtemp(prefix="steersman-volume-"))
        os.chown(self.volume, USER, USER)
        self.log = self.volume.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._namespaces: set[str] = set()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()
        buildah.call("rm", self.name)
        subprocess.run(["rm", "-rf", str(self.volume), str(self.log)], check=True)

    def line(self, *command: str) -> list[str]:
        """Return the command line that runs `command` in the container as its user."""
        given = [f"--env={name}={value}" for name, value in self.variables.items()]
        return buildah.line("run", f"--volume={self.volume}:/data", *given, self.name, "--", *command)

    def start(self) -> None:
        """Start the command of the image."""
        told = buildah.configuration(self.image)
        entry, command = told.get("Entrypoint") or [], told.get("Cmd") or []
        assert isinstance(entry, list) and isinstance(command, list)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.line(*entry, *command), env=buildah.environment(), stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *command: str) -> str:
        """Return the output of a command in the container, as with `docker exec`. Raises `Failed`."""
        done = subprocess.run(
            self.line(*command), env=buildah.environment(), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
        )
        if done.returncode:
            raise buildah.Failed(f"{' '.join(command)} in {self.image}: {(done.stdout + done.stderr)[-2000:]}")
        return done.stdout

    def said(self) -> str:
        """Return the output of the container so far."""
        return self.log.read_text(errors="replace")

    def check_running(self) -> None:
        """Raise `Failed` if the container has ended."""
        if self._process is None or self._process.poll() is not None:
            raise buildah.Failed(f"the container of {self.image} ended:\n{self.said()[-3000:]}")

    def processes(self) -> list[psutil.Process]:
        """Return the processes that live in its mount namespace, where its file system is the root."""
        if self._process is not None and self._process.poll() is None:
            started = psutil.Process(self._process.pid).children(recursive=True)
            self._namespaces |= {_namespace(process.pid) for process in started} - {_namespace(os.getpid()), ""}
        found = [process for process in psutil.process_iter() if _namespace(process.pid) in self._namespaces]
        return [process for process in found if not _first_word(process).startswith("buildah")]

    def end(self) -> None:
        """End the container as `docker stop` does, and end its remaining processes."""
        inits = [process for process in self.processes() if _name_of(process) == "tini"]
        for process in inits:
            process.send_signal(signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(60 if inits else 1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

        def gone() -> bool:
            left = self.processes()
            for process in left:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            return not left

        wait_for(gone, f"the end of the container of {self.image}")


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return ""


def _first_word(process: psutil.Process) -> str:
    try:
        return str(process.cmdline()[0])
    except (psutil.NoSuchProcess, IndexError):
        return "buildah"


def _name_of(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def started(image: str, **variables: str) -> Iterator[Container]:
    """Start a container of `image` and end it at the end of the context."""
    with Container(image, **variables) as container:
        container.start()
        yield container
