"""Starts a launch, and has what earlier launches left stored."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.launch.spawn import script_name, why_not_there
from steersman.agent.launch.torchrun import LaunchError
from steersman.agent.remote.beside import join_launch, tell_nothing_to_train
from steersman.agent.remote.claims import Claimed, claim
from steersman.agent.remote.host_process import LOCK_FILE
from steersman.agent.remote.launchers import Start, as_launched, launcher_start
from steersman.agent.remote.launches import (
    LAUNCH_FILE,
    RESULT_FILE,
    Launch,
    launches_folder,
    new_key,
    read_launch,
    read_result,
    write_opened,
)
from steersman.agent.remote.opening import open_attempt
from steersman.agent.remote.packages import APPLICATION, STOP_SIGNAL_VARIABLE
from steersman.agent.remote.parent import supervised
from steersman.agent.remote.portal_link import check_version
from steersman.agent.remote.problems import NotStarted as NotStarted
from steersman.agent.remote.terminal import say
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_FINISHED
from steersman.files.locks import try_lock
from steersman.portal.logins import Login
from steersman.portal.requests import Refused, Unreachable
from steersman.records.typed_json import Malformed

STARTS_ANYWAY = (
    "The training starts now. It is recorded on this machine until the portal answers, and then stored there."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line, `started`, asks for; `name` is "" for the name of the program. See `Launch`."""

    script: list[str]
    name: str
    ranks: int
    restarts: int
    wait_s: float
    project: str
    started: list[str]


def start(login: Login, data: Path, asked: Asked) -> int:
    """Open a run, train, and return the exit code of the training. Raises `NotStarted`.

    A portal that cannot be reached does not keep the training from starting; one that refuses does. Under a launcher of
    several processes, only rank 0 does so, and the others train beside it.
    """
    numbers = _signals(os.environ)
    try:
        begun = launcher_start(os.environ)
    except LaunchError as error:
        raise NotStarted(str(error)) from error
    if begun.ranks is None:
        return _lead(login, data, asked, begun, numbers)
    _refuse_own_processes(asked, begun)
    if begun.ranks.rank:
        return join_launch(data, begun.ranks)
    try:
        return _lead(login, data, asked, begun, numbers)
    except NotStarted as error:
        tell_nothing_to_train(data, begun.ranks, error.exit_code)
        raise


def _lead(login: Login, data: Path, asked: Asked, begun: Start, numbers: list[signal.Signals]) -> int:
    """Train as the only process that the launcher has started, or as the first of them."""
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
        started=as_launched(asked.started, begun),
        folder=os.getcwd(),
    )
    claimed = claim(data, launch, begun)
    if claimed.has_finished:
        say("this training has finished, before the launcher started it again: nothing is started")
        if begun.ranks is not None:
            tell_nothing_to_train(data, begun.ranks, EXIT_FINISHED)
        return EXIT_FINISHED
    try:
        _open(login, claimed, data)
    except Refused as error:
        if claimed.is_new:
            shutil.rmtree(claimed.folder)
        raise NotStarted(str(error)) from error
    launcher = os.getppid() if begun.job else None
    return supervised(claimed.folder, claimed.launch.ranks, numbers, launcher=launcher)


def _open(login: Login, claimed: Claimed, data: Path) -> None:
    """Open the run, if the portal can be reached; print what the person has to know. Raises `Refused`.

    The host process opens the next attempt of a launch that continues, once the rest of the last one is stored.
    """
    problem: Unreachable | None = None
    try:
        check_version(login)
    except Unreachable as error:
        problem = error
    try:
        if claimed.is_new:
            place = open_attempt(login, claimed.launch, 1, data, APPLICATION)
            say(f"run {place.run}: {place.page}")
            write_opened(claimed.folder, place)
    except Unreachable as error:
        problem = error
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


def _refuse_own_processes(asked: Asked, begun: Start) -> None:
    """Raise `NotStarted` for options that start processes, if the launcher does that."""
    if asked.ranks > 1:
        raise NotStarted(f"nproc: {begun.launcher} sets the number of processes; leave out --nproc.")
    if asked.restarts:
        remedy = "give torchrun --max-restarts" if begun.agent else "give sbatch --requeue"
        raise NotStarted(f"restarts: {begun.launcher} starts the processes, and again after a failure; {remedy}.")
