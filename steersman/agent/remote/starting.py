"""Starts a launch, and has what earlier launches left stored."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.launch.spawn import script_name, why_not_there
from steersman.agent.launch.torchrun import LaunchError, torchrun_launch
from steersman.agent.remote.host_process import APPLICATION, LOCK_FILE, STOP_SIGNAL_VARIABLE
from steersman.agent.remote.launches import (
    LAUNCH_FILE,
    Launch,
    launches_folder,
    make_launch,
    new_key,
    read_launch,
    read_result,
    write_opened,
)
from steersman.agent.remote.opening import open_attempt
from steersman.agent.remote.parent import supervised
from steersman.agent.remote.portal_link import check_version
from steersman.agent.remote.terminal import say
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_BAD_INPUT
from steersman.files.locks import try_lock
from steersman.portal.logins import Login
from steersman.portal.requests import Refused, Unreachable
from steersman.records.typed_json import Malformed
from steersman.starting.messages import RESULT_FILE

STARTS_ANYWAY = (
    "The training starts now. It is recorded on this machine until the portal answers, and then stored there."
)


class NotStarted(Exception):
    """The training was not started. The text gives the reason and the remedy."""

    def __init__(self, text: str, exit_code: int = EXIT_BAD_INPUT) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for; `name` is "" for the name of the program. See `Launch`."""

    script: list[str]
    name: str
    ranks: int
    restarts: int
    wait_s: float
    project: str = ""
    push: str = "none"


def start(login: Login, data: Path, asked: Asked) -> int:
    """Open a run, train, and return the exit code of the training. Raises `NotStarted`.

    A portal that cannot be reached does not keep the training from starting; one that refuses does.
    """
    numbers = _signals(os.environ)
    _refuse_launchers(os.environ)
    if fault := why_not_there(asked.script):
        raise NotStarted(f"program: {fault}")
    launch = Launch(
        key=new_key(),
        portal=login.address,
        name=asked.name or script_name(asked.script),
        script=asked.script,
        parent=os.getpid(),
        ranks=asked.ranks,
        restarts=asked.restarts,
        wait_s=asked.wait_s,
        project=asked.project,
        push=asked.push,
    )
    folder = make_launch(data, launch)
    try:
        _open(login, launch, folder, data)
    except Refused as error:
        shutil.rmtree(folder)
        raise NotStarted(str(error)) from error
    return supervised(folder, launch.ranks, numbers)


def _open(login: Login, launch: Launch, folder: Path, data: Path) -> None:
    """Open the run, if the portal can be reached; print what the person has to know. Raises `Refused`."""
    problem: Unreachable | None = None
    try:
        check_version(login)
    except Unreachable as error:
        problem = error
    try:
        place = open_attempt(login, launch, 1, data, APPLICATION)
    except Unreachable as error:
        problem = error
    else:
        say(f"run {place.run}: {place.page}")
        write_opened(folder, place)
    if problem is not None:
        say(f"{problem} {STARTS_ANYWAY}")


def store_rest(data: Path, wait_s: float) -> list[Path]:
    """Have what is left of all launches that nobody follows stored; return the folders of those where that failed.

    Waits up to `wait_s` seconds for the portal of each.
    """
    left = []
    for folder in sorted(path.parent for path in launches_folder(data).glob(f"*/{LAUNCH_FILE}")):
        result = read_result(folder)
        if (result is not None and result.is_stored) or not _is_free(folder):
            continue
        try:
            read_launch(folder)
        except (OSError, Malformed):
            left.append(folder)
            continue
        (folder / RESULT_FILE).unlink(missing_ok=True)
        supervised(folder, 0, _signals(os.environ), str(wait_s))
        result = read_result(folder)
        if result is None or not result.is_stored:
            left.append(folder)
    return left


def _is_free(folder: Path) -> bool:
    lock = try_lock(folder / LOCK_FILE)
    if lock is not None:
        lock.release()
    return lock is not None


def _signals(environment: Mapping[str, str]) -> list[signal.Signals]:
    """Return the signals for the host process. Raises `NotStarted` if the environment names none that it takes."""
    warning = environment.get(STOP_SIGNAL_VARIABLE, "")
    try:
        Interrupts(warning)
    except ValueError as error:
        raise NotStarted(str(error)) from error
    found = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
    if warning:
        found.add(signal.Signals[f"SIG{warning.upper().removeprefix('SIG')}"])
    return sorted(found)


def _refuse_launchers(environment: Mapping[str, str]) -> None:
    """Raise `NotStarted` under torchrun with several processes: each would open a run of its own."""
    try:
        launch = torchrun_launch(environment)
    except LaunchError as error:
        raise NotStarted(str(error)) from error
    if launch is not None:
        raise NotStarted(
            "torchrun: it starts several of this command, each with a run of its own. Start one instead: steersman run "
            "--nproc K -- python train.py, or steersman run -- torchrun ... train.py"
        )
