"""Management commands in a process that has loaded Django already: each runs in a fork of it.

Loading Django takes longer than most commands do. `CommandServer` starts this file as a program, which then reads
requests from its input, one JSON object a line, and answers each with one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import random
import select
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 300.0


class CommandServer:
    """The process of one environment. It ends with `close`, or when the process that uses it does."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = dict(environment)
        self._outputs = (folder / "command.out", folder / "command.err")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, *map(str, self._outputs)],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as `subprocess.run` does. Raises `TimeoutExpired`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], TIMEOUT_S)[0]:
                self._process.kill()
                raise subprocess.TimeoutExpired(arguments, TIMEOUT_S)
            answer = self._process.stdout.readline()
            if not answer:
                raise AssertionError(f"the server of commands ended at {arguments}; see what it printed above")
            output, errors = (path.read_text() for path in self._outputs)
            return subprocess.CompletedProcess(arguments, int(answer), output, errors)

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


def take_over(arguments: list[str], outputs: list[str]) -> NoReturn:
    """Make this fork look like `manage.py ARGUMENTS`, run that, and end."""
    import manage

    random.seed()
    for number, path in enumerate([os.devnull, *outputs]):
        kept = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(kept, number)
        os.close(kept)
    sys.argv = [str(ROOT / "manage.py"), *arguments]
    code = 0
    try:
        manage.main()
    except SystemExit as ending:
        # As Python itself: a text is printed, and means 1.
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    # What Python does at its end but for taking all modules apart, which takes longer than the command did.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(outputs: list[str]) -> None:
    sys.path[0] = str(ROOT)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
    import django

    django.setup()
    gc.freeze()
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            take_over(json.loads(line), outputs)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
