"""Runs the workers of trainings in forks of a process that has loaded torch, which takes longer than a short training.

The server of commands (`tests.support.command_server`) loads this module. Before a command runs, it forks a process
that waits: the first worker that the command starts runs in it. Otherwise that process is what it would be: a child of
the supervisor in a session of its own, with its environment, folder, console and exit code.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from typing import Any, NoReturn

from steersman.agent.launch.spawn import LIBC, PR_SET_PDEATHSIG, script_command

# The modules that run in the waiting process.
MODULES = ("trainer.worker.main", "bench.support.recovery.script")
# What these import, without themselves, because they run as `__main__`. torch loads `_dynamo` for its first optimizer.
LOADED = (
    "torch._dynamo", "bench.support.recovery.recipes", "trainer.worker.checkpoints", "trainer.worker.environment",
    "trainer.worker.loop", "trainer.worker.parallel",
)  # fmt: skip


def load() -> None:
    """Load what every worker needs."""
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()


def before_command() -> None:
    """Fork the process that waits for the worker of the command that runs next in this process."""
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        here.close()
        _wait(there)
    there.close()
    WarmPopen.waiting = (pid, here)
    subprocess.Popen = WarmPopen  # type: ignore[misc]


class WarmPopen(subprocess.Popen):  # type: ignore[type-arg]
    """Starts the first worker in the process that waits, and everything else as usual."""

    waiting: tuple[int, socket.socket] | None = None

    def _execute_child(self, args: Any, *rest: Any) -> None:
        module = _module_of(args)
        if module is None or WarmPopen.waiting is None:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        (_, preexec, _, _, cwd, environment, _, _, _, read, _, _, write, *_) = rest
        self.pid, request = WarmPopen.waiting
        WarmPopen.waiting = None
        self._child_created = True
        words = {"module": module, "arguments": list(args[4:]), "cwd": cwd, "environment": environment}
        with request:
            socket.send_fds(request, [b"."], [write])
            request.sendall(json.dumps(words | {"tied": preexec is not None}).encode() + b"\n")
        os.close(read)


def _module_of(words: Any) -> str | None:
    """Return the module that a command runs if it is that of a worker."""
    for module in MODULES:
        if list(words[:4]) == script_command(["-m", module])[:4]:
            return module
    return None


def _wait(requests: socket.socket) -> NoReturn:
    """Become the worker of the first request; end if the supervisor ends without one."""
    _, consoles, _, _ = socket.recv_fds(requests, 1, 1)
    with requests, requests.makefile() as lines:
        asked = json.loads(lines.readline() or "null")
    if asked is None:
        os._exit(0)
    os.setsid()
    if asked["tied"] and LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    for number in (1, 2):
        os.dup2(consoles[0], number)
    os.close(consoles[0])
    os.environ.clear()
    os.environ.update(asked["environment"])
    if asked["cwd"] is not None:
        os.chdir(asked["cwd"])
    # As Python sets them up by PYTHONUNBUFFERED and PYTHONIOENCODING.
    sys.stdout = os.fdopen(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = [asked["module"], *asked["arguments"]]
    code: object = 0
    try:
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        code = ending.code
    except BaseException:
        # The client records exceptions by this hook.
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else int(code is not None))
