"""Processes that `serve` and the demo start, monitor and end. Does not import Django."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from monitor_site.serving.embedded_server import die_with_parent
from steersman.files.private import make_private, open_private, write_private
from steersman.run import FOLDER_VARIABLE

PR_SET_CHILD_SUBREAPER = 36
# The pause before a child that keeps ending is restarted: doubled each time, up to the longest.
FIRST_WAIT_S = 0.2
LONGEST_RESTART_PAUSE_S = 10.0
# If a child ran for this long, it is healthy: the next end counts as the first.
CHILD_HEALTHY_S = 10.0


class Child:
    """A process in a separate session, so that Ctrl-C only reaches its parent, with its output in a file."""

    def __init__(self, name: str, command: list[str], log: Path, folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.command = command
        self.log = log
        self._folder = folder
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._wait_s = FIRST_WAIT_S
        self._restart_at: float | None = None
        make_private(log.parent)
        write_private(log, "")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def exit_code(self) -> int | None:
        """Return the exit status (negative: the signal), None while it runs or before it was started."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        with open_private(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self._started = time.monotonic()

    def keep_alive(self) -> str | None:
        """Restart the child if it ended by itself; return a sentence when that is noticed, None otherwise."""
        if self.exit_code is None:
            return None
        now = time.monotonic()
        if self._restart_at is None:
            if now - self._started > CHILD_HEALTHY_S:
                self._wait_s = FIRST_WAIT_S
            self._restart_at = now + self._wait_s
            self._wait_s = min(self._wait_s * 2, LONGEST_RESTART_PAUSE_S)
            return f"The {self.name} {self.ended()}: starting it again."
        if now >= self._restart_at:
            self._restart_at = None
            self.start()
        return None

    def ended(self) -> str:
        """Return how the child ended, as a text."""
        code = self.exit_code
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"

    def last_line(self) -> str:
        """Return the last line that the child wrote, or where to look."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"it printed nothing in {self.log}"

    def terminate(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Return whether the child has ended within `timeout_s` seconds."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent dies (Linux), so that none is lost."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(own: Iterable[int | None]) -> None:
    """Reap adopted descendants that ended; `own` are the processes that other code waits for."""
    known = set(own)
    for process in psutil.Process().children():
        try:
            if process.pid not in known and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            continue


def descendants_of_run(run_id: int, folder: Path) -> list[psutil.Process]:
    """Return the descendants of this process that train or supervise a run: its `train`, and all in its `folder`.

    Child processes of a training are found by their environment, even in another session.
    """
    return [process for process in psutil.Process().children(recursive=True) if _is_of_run(process, run_id, folder)]


def _is_of_run(process: psutil.Process, run_id: int, folder: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        words = process.cmdline()
        supervises = any(pair == ("--run-id", str(run_id)) for pair in zip(words, words[1:], strict=False))
        return supervises or Path(process.environ().get(FOLDER_VARIABLE, "/")).is_relative_to(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def kill_run(run_id: int, folder: Path) -> int:
    """Kill the processes that this process or its descendants started for a run; return how many were running."""
    killed = [process for process in descendants_of_run(run_id, folder) if _kill(process)]
    psutil.wait_procs(killed, timeout=5)
    return len(killed)


def _kill(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
