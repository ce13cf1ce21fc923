"""Starts a training process: its command line and environment. No Django, no torch."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from steersman.agent.folders import WorkerProcess
from steersman.agent.journals.consoles import console_path
from steersman.agent.machine.pynvml_notice import without_notice
from steersman.files.private import make_private, open_private
from steersman.ranks.launchers import OUTSIDE_VARIABLE, outside
from steersman.run import FOLDER_VARIABLE, RANK_VARIABLE, RANKS_VARIABLE

# The portal or its host side needs these variables, and a training must not see them: settings with keys in them, the
# files that hold such settings, and the addresses of its services.
WITHHELD = re.compile(
    r"DJANGO_SETTINGS_MODULE|STEERSMAN_(SECRET_KEY\w*|TOKEN|CALLER|(MAIL|OIDC)_\w+|\w+_(URL|PASSWORD|FILE))"
)

# No character may end a training: lone surrogates, which UTF-8 cannot encode, are written as escapes.
CONSOLE_ENCODING = "utf-8:backslashreplace"

PR_SET_PDEATHSIG = 1
# Loaded before any fork, because the child of a process with threads must not load it.
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def script_command(script: Sequence[str]) -> list[str]:
    """Return the command of a person's own script: `x.py args` and `-m module args` are run by this Python.

    Anything else is run as a command, unchanged.
    """
    return [sys.executable, "-u", *script] if script[0].endswith(".py") or _is_for_python(script) else list(script)


def why_not_there(script: Sequence[str]) -> str:
    """Return why a script cannot be found in this folder or on the path, "" if it can."""
    program = Path(script[0])
    if program.suffix == ".py" and not program.is_file():
        return f"there is no file {program}; give the path of your script after --."
    if script[0] == "-m" and len(script) < 2:
        return "-m needs the name of a module, as in -- -m mypackage.train."
    if script[0] == "-m" and PathFinder.find_spec(script[1].split(".")[0], [os.getcwd(), *_python_path()]) is None:
        return f"there is no module {script[1]} here; start the training from the folder that contains its package."
    return ""


def script_name(script: Sequence[str]) -> str:
    """Return a short name of the program that a command runs: a module, a Python file, or the executable."""
    for word, following in zip(script, [*script[1:], ""], strict=True):
        if word.endswith(".py"):
            return Path(word).name
        if word == "-m" and following:
            return following
    return Path(script[0]).name


def _is_for_python(script: Sequence[str]) -> bool:
    return script[0].startswith("-")


def _python_path() -> list[str]:
    return [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path]


def worker_environment(folder: Path, data: Path, application: Path, base: Mapping[str, str]) -> dict[str, str]:
    """Return the worker's environment, in which `import steersman` works without hiding the person's own packages."""
    client = make_private(data / "client")
    link = client / "steersman"
    if not link.is_symlink():
        # Another `train` may create it at the same moment.
        with contextlib.suppress(FileExistsError):
            link.symlink_to(application / "steersman")
    environment = without_notice({name: value for name, value in base.items() if not WITHHELD.fullmatch(name)})
    paths = [base["PYTHONPATH"]] if base.get("PYTHONPATH") else []
    return environment | {
        FOLDER_VARIABLE: str(folder),
        RANK_VARIABLE: "0",
        RANKS_VARIABLE: "1",
        OUTSIDE_VARIABLE: outside(base),
        "STEERSMAN_DATA": str(data),
        "PYTHONUNBUFFERED": "1",
        # The console is a file that is read as UTF-8, whatever the terminal of `train` supports.
        "PYTHONIOENCODING": CONSOLE_ENCODING,
        "PYTHONPATH": os.pathsep.join([*paths, str(client)]),
    }


def rank_environment(environment: Mapping[str, str], rank: int, ranks: int, port: int) -> dict[str, str]:
    """Return the environment of one of several ranks on this host, as from torchrun; they rendezvous at `port`."""
    return (
        {"OMP_NUM_THREADS": "1"}
        | dict(environment)
        | {
            RANK_VARIABLE: str(rank),
            RANKS_VARIABLE: str(ranks),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_worker(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    rank: int = 0,
    *,
    tied: bool = False,
    node: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a rank's worker with its console in a file, and record its process.

    It is a separate session, so that Ctrl-C on the terminal only reaches the supervisor. If `tied`, it is killed when
    this process ends, for whatever reason. With several nodes, the folder of its `node` has the record of its process.
    Raises `OSError` if the program cannot be started.
    """
    with open_private(console_path(folder, rank), "ab") as console:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_tie_to_parent if tied else None,
        )
    WorkerProcess.of(process.pid).record(node or folder, rank)
    return process


def _tie_to_parent() -> None:
    """Make the kernel kill this process with the thread that started it: the main thread of `train`."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
