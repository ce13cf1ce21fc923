"""The process at the terminal: starts the host process, again if it is killed, and passes on output and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import steersman
from steersman.agent.journals.consoles import console_path
from steersman.agent.remote.launches import attempt_of, newest_attempt, read_concluded, read_result
from steersman.agent.remote.terminal import say
from steersman.exit_codes import EXIT_FAILED

LOOK_INTERVAL_S = 0.05
READ_BYTES = 1 << 16
# The pauses before a host process that ended without a result is started again: they double up to the longest.
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
# A host process that ran for at least this time did not fail at its start.
STARTED_AFTER_S = 30.0
# The host process may fail this many times in a row before a training was started, because nothing is lost then.
MOST_FAILED_STARTS = 3
# The current folder, which Python puts first, may have modules of any name.
PROGRAM = (
    "import sys; sys.path[0] = {packages!r}; from steersman.agent.remote.host_process import main; sys.exit(main())"
)


class Signals:
    """Passes signals on to the host process. If it is started again, those that request a stop are sent again."""

    def __init__(self, numbers: Sequence[signal.Signals]) -> None:
        self.numbers = numbers
        self._came: list[int] = []
        self._passed: list[int] = []

    def install(self) -> None:
        for number in self.numbers:
            signal.signal(number, self._take)
        # A closed terminal must not end a long training.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def pass_on(self, process: subprocess.Popen[bytes]) -> None:
        while self._came:
            number = self._came.pop(0)
            self._passed.append(number)
            process.send_signal(number)

    def repeat(self) -> None:
        """Send the signals that requested a stop again, to the next process."""
        self._came = [number for number in self._passed if number != signal.SIGUSR1] + self._came
        self._passed.clear()

    def ask(self, number: int) -> None:
        """Handle a signal that was not sent to this process."""
        self._came.append(number)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)


class Output:
    """Passes on what the training prints, byte by byte: its progress bars and colours are as without a supervisor."""

    def __init__(self, folder: Path, ranks: int, after: int = 0) -> None:
        """`after` is the newest attempt that ended before: its output is not repeated."""
        self._folder = folder
        self._ranks = ranks
        self._after = self._attempt = after
        self._files: dict[int, BinaryIO] = {}

    def pass_on(self) -> None:
        """Print what is new. The rest of an attempt comes before the next one."""
        newest = newest_attempt(self._folder)
        while self._attempt < newest:
            self._print_new()
            self._close()
            self._attempt += 1
        self._print_new()

    def _print_new(self) -> None:
        for rank in range(self._ranks if self._attempt > self._after else 0):
            file = self._files.get(rank) or self._open(rank)
            while file is not None and (data := file.read(READ_BYTES)):
                self._write(data)

    def _open(self, rank: int) -> BinaryIO | None:
        try:
            # Kept open: a file that was shortened is another one, and the end of this one is still to be printed.
            file = console_path(attempt_of(self._folder, self._attempt), rank).open("rb")
        except OSError:
            return None
        self._files[rank] = file
        return file

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write(self, data: bytes) -> None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except (OSError, ValueError):
            # The terminal may be closed while the training continues.
            return


class Parent:
    """Runs the host process of a launch to its end."""

    def __init__(self, folder: Path, signals: Signals, output: Output, launcher: int | None = None) -> None:
        """`launcher` is the process with whose end the training is to stop, None if there is none."""
        self._launcher = launcher
        self._folder = folder
        self._signals = signals
        self._output = output

    def run(self, *options: str) -> int:
        """Return the exit code of the launch."""
        pause_s, failed_starts = FIRST_PAUSE_S, 0
        while True:
            began = time.monotonic()
            code = self._run_once(options)
            result = read_result(self._folder)
            if result is not None:
                return result.code
            ran_s = time.monotonic() - began
            pause_s = FIRST_PAUSE_S if ran_s > STARTED_AFTER_S else min(2 * pause_s, LONGEST_PAUSE_S)
            failed_starts += 1
            if newest_attempt(self._folder) == 0 and failed_starts >= MOST_FAILED_STARTS:
                say(f"the training could not be started: the host process ended with exit code {code}")
                return EXIT_FAILED
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            say(f"the process that records the training {how}: a new one is started, and the training continues")
            self._signals.repeat()
            time.sleep(pause_s)

    def _run_once(self, options: Sequence[str]) -> int:
        process = self._start(options)
        while process.poll() is None:
            if self._launcher is not None and os.getppid() != self._launcher:
                self._launcher = None
                self._signals.ask(signal.SIGTERM)
            self._signals.pass_on(process)
            self._output.pass_on()
            time.sleep(LOOK_INTERVAL_S)
        self._output.pass_on()
        return process.returncode

    def _start(self, options: Sequence[str]) -> subprocess.Popen[bytes]:
        packages = str(Path(steersman.__file__).resolve().parent.parent)
        command = [sys.executable, "-c", PROGRAM.format(packages=packages), str(self._folder), *options]
        # Until it has handlers, a signal would end it: it unblocks them itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals.numbers)
        try:
            # A session of its own: Ctrl-C reaches this process alone, which passes it on.
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._signals.numbers)


def supervised(
    folder: Path, ranks: int, numbers: Sequence[signal.Signals], *options: str, launcher: int | None = None
) -> int:
    """Run the host process of a launch, whose folder is absolute, to its end; return the exit code of the launch.

    Passes on the output of `ranks` ranks, 0 for none. The training is stopped when the process `launcher` has ended.
    """
    newest = newest_attempt(folder)
    ended = newest if newest and read_concluded(attempt_of(folder, newest)) is not None else max(newest - 1, 0)
    signals = Signals(numbers)
    signals.install()
    return Parent(Path(os.path.abspath(folder)), signals, Output(folder, ranks, ended), launcher).run(*options)
