"""Management commands in forks of a process that has already loaded Django.

Loading Django takes longer than most commands. `CommandServer` starts this file as a program, which reads requests from
its input, one JSON array per line, and answers each with a number: the exit code of a command that has ended, or the
pid of one that it has started.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0


class CommandServer:
    """The process of one environment. It ends with `close`, or when the process that uses it ends.

    `warm` is the name of a module: its `load()` is called in the server, and its `before_command()` in each command
    that `start` starts.
    """

    def __init__(self, environment: dict[str, str], folder: Path, warm: str = "") -> None:
        self.environment = dict(environment)
        self._folder = folder
        self._outputs = (folder / "command.out", folder / "command.err")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, *filter(None, [warm])],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as `subprocess.run` does. Raises `TimeoutExpired`."""
        with self._lock:
            code = self._ask(arguments, *map(str, self._outputs))
            output, errors = (path.read_text() for path in self._outputs)
            return subprocess.CompletedProcess(arguments, code, output, errors)

    def start(self, arguments: tuple[str, ...], log: Path, cwd: Path) -> StartedCommand:
        """Start a command in a separate session; its output is appended to `log`. Raises `TimeoutExpired`."""
        with self._lock:
            pid = self._ask(arguments, str(log), str(cwd), str(self._folder))
        return StartedCommand(arguments, pid, self._folder)

    def _ask(self, arguments: tuple[str, ...], *more: str) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([arguments, *more]).encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], TIMEOUT_S)[0]:
            self._process.kill()
            raise subprocess.TimeoutExpired(arguments, TIMEOUT_S)
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError(f"the server of commands ended at {arguments}; see what it printed above")
        return int(answer)

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


class StartedCommand:
    """A command that runs in a fork; as with `subprocess.Popen`, a test can wait for it and end it."""

    def __init__(self, arguments: tuple[str, ...], pid: int, folder: Path) -> None:
        self.args, self.pid = arguments, pid
        self.returncode: int | None = None
        self._ended = folder / f"ended-{pid}"

    def poll(self) -> int | None:
        if self.returncode is None and self._ended.exists():
            self.returncode = int(self._ended.read_text())
            self._ended.unlink()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative after a signal. Raises `TimeoutExpired` after `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if timeout is not None and until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # just ended
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def take_over(arguments: list[str]) -> NoReturn:
    """Make this fork look like `manage.py ARGUMENTS`, run that, and end."""
    import manage

    random.seed()
    sys.argv = [str(ROOT / "manage.py"), *arguments]
    code = 0
    try:
        manage.main()
    except SystemExit as ending:
        # Like Python itself: print a text, which means 1.
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    # Python does this at its end too. Tearing down all modules would take longer than the command itself.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def use(paths: list[str], mode: int) -> None:
    """Make the null device this process's input, and these files its output and errors."""
    for number, path in enumerate([os.devnull, *paths]):
        kept = os.open(path, os.O_RDWR | os.O_CREAT | mode, 0o600)
        os.dup2(kept, number)
        os.close(kept)


def run(arguments: list[str], output: str, errors: str) -> int:
    """Run a command to its end; return its exit code."""
    child = os.fork()
    if child == 0:
        use([output, errors], os.O_TRUNC)
        take_over(arguments)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def start(arguments: list[str], before: Callable[[], None], log: str, cwd: str, folder: str) -> int:
    """Start a command in a separate session; return its pid. A second fork writes its exit code to `folder`."""
    reads, writes = os.pipe()
    if os.fork() == 0:
        use([log, log], os.O_APPEND)
        child = os.fork()
        if child == 0:
            os.close(writes)
            os.setsid()
            os.chdir(cwd)
            before()
            take_over(arguments)
        os.write(writes, str(child).encode())
        os.close(writes)
        _, status = os.waitpid(child, 0)
        # The folder may be gone, together with the process that waits for the code.
        with suppress(OSError):
            note = Path(folder) / f"noted-{child}"
            note.write_text(str(os.waitstatus_to_exitcode(status)))
            note.rename(note.with_name(f"ended-{child}"))
        os._exit(0)
    os.close(writes)
    with open(reads) as pid:
        return int(pid.read())


def skip() -> None:
    """Prepare nothing for the next command."""


def main() -> None:
    sys.path[0] = str(ROOT)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
    import django

    django.setup()
    before = skip
    for name in sys.argv[1:]:
        warm = importlib.import_module(name)
        warm.load()
        before = warm.before_command
    gc.freeze()
    while line := sys.stdin.readline():
        arguments, *more = json.loads(line)
        print(run(arguments, *more) if len(more) == 2 else start(arguments, before, *more), flush=True)


if __name__ == "__main__":
    main()
