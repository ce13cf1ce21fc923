"""Starts a launch, and sends the records of earlier launches that their portals have not stored."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from steersman.agent.launch.spawn import script_name, why_not_there
from steersman.agent.launch.torchrun import LaunchError
from steersman.agent.launchers.problems import NotStarted as NotStarted
from steersman.agent.launchers.starts import Start, as_launched, launcher_start
from steersman.agent.origin.fetching import fetch_origin, read_origin
from steersman.agent.remote.beside import join_launch, tell_nothing_to_train, tell_of_beginning
from steersman.agent.remote.claims import claim
from steersman.agent.remote.host_process import LOCK_FILE
from steersman.agent.remote.launches import (
    LAUNCH_FILE,
    Launch,
    ask_for_attempt,
    attempt_of,
    find_launch,
    launches_folder,
    make_launch,
    new_key,
    newest_attempt,
    read_concluded,
    read_launch,
    read_result,
    write_launch,
    write_opened,
)
from steersman.agent.remote.opening import open_attempt
from steersman.agent.remote.packages import APPLICATION, STOP_SIGNAL_VARIABLE
from steersman.agent.remote.parent import supervised
from steersman.agent.remote.portal_link import check_version
from steersman.agent.remote.terminal import say
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_FINISHED, EXIT_HELD
from steersman.files.locks import try_lock
from steersman.portal.logins import Login
from steersman.portal.requests import Refused, Unreachable
from steersman.records.typed_json import Malformed
from steersman.starting.messages import RESULT_FILE

STARTS_ANYWAY = (
    "The training starts now. Its records are kept on this machine, and are sent as soon as the portal answers."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a command line, whose words are `started`. If `name` is "", the run has the name of its program.
    `origin` is the `RUN[:CHECKPOINT]` of `--from`, "" without it. See `Launch`.
    """

    script: list[str]
    name: str
    ranks: int
    restarts: int
    wait_s: float
    project: str
    started: list[str]
    key: str = ""
    push: str = "none"
    origin: str = ""


def start(login: Login, data: Path, options: Options) -> int:
    """Open a run, train, and return the exit code of the training. Raises `NotStarted`.

    If the portal cannot be reached, the training starts anyway. If the portal refuses, it does not start. Under a
    launcher of several processes, only rank 0 opens the run, and the others train beside it. A launch whose key is
    known on this host is continued: a training that is still running is followed, otherwise another attempt begins.
    """
    numbers = _signals(os.environ)
    try:
        begun = launcher_start(os.environ)
    except LaunchError as error:
        raise NotStarted(str(error)) from error
    if begun.ranks is None:
        return _lead(login, data, options, begun, numbers)
    _refuse_own_processes(options, begun)
    if begun.ranks.rank:
        return join_launch(data, begun.ranks)
    try:
        return _lead(login, data, options, begun, numbers)
    except NotStarted as error:
        tell_nothing_to_train(data, begun.ranks, error.exit_code)
        raise


def _lead(login: Login, data: Path, options: Options, begun: Start, numbers: list[signal.Signals]) -> int:
    """Train as the only process that the launcher has started, or as the first of them."""
    if fault := why_not_there(options.script):
        raise NotStarted(f"program: {fault}")
    launch = Launch(
        key=options.key or new_key(),
        portal=login.address,
        name=options.name or script_name(options.script),
        script=options.script,
        parent=os.getpid(),
        ranks=options.ranks,
        restarts=options.restarts,
        wait_s=options.wait_s,
        project=options.project,
        started=as_launched(options.started, begun),
        folder=os.getcwd(),
        push=options.push,
    )
    if options.key:
        # A job of Slurm may repeat the command.
        launch = replace(launch, turn=begun.turn, identity=begun.identity, slurm_job=begun.slurm_job)
        folder = _prepare_by_key(login, data, launch, options.origin)
    else:
        claimed = claim(data, launch, begun, options.origin)
        if claimed.has_finished:
            say("this training had already finished when the launcher started it again: nothing is started")
            if begun.ranks is not None:
                tell_nothing_to_train(data, begun.ranks, EXIT_FINISHED)
            return EXIT_FINISHED
        launch, folder = claimed.launch, claimed.folder
        if claimed.is_new:
            if begun.ranks is not None and options.origin:
                tell_of_beginning(data, begun.ranks)
            _begin(login, launch, folder, data, options.origin)
        else:
            _continue_from_own(options.origin)
            try:
                _open(login, launch, folder, data, None)
            except Refused as error:
                raise NotStarted(str(error)) from error
    return supervised(folder, launch.ranks, numbers, launcher=os.getppid() if begun.job else None)


def _prepare_by_key(login: Login, data: Path, launch: Launch, origin: str) -> Path:
    """Prepare the folder of the launch with this key for the host process; return it. Raises `NotStarted`."""
    folder = find_launch(data, launch.key)
    if folder is None:
        folder = make_launch(data, launch)
        _begin(login, launch, folder, data, origin)
    else:
        _continue(login, launch, folder, data, origin)
    return folder


def _begin(login: Login, launch: Launch, folder: Path, data: Path, origin: str) -> None:
    """Prepare the folder of a new launch for the host process; remove it if nothing starts. Raises `NotStarted`."""
    try:
        if origin:
            fetch_origin(login, data, folder, origin, launch.wait_s, say)
        _open(login, launch, folder, data, 1)
    except Refused as error:
        shutil.rmtree(folder)
        raise NotStarted(str(error)) from error
    except (NotStarted, KeyboardInterrupt):
        shutil.rmtree(folder)
        raise


def _continue_from_own(origin: str) -> None:
    if origin:
        say("this training has begun before: it continues from its own newest checkpoint, not from that of --from")


def _continue(login: Login, launch: Launch, folder: Path, data: Path, origin: str) -> None:
    """Prepare the folder of a known launch for the host process. Raises `NotStarted`."""
    if not _is_free(folder):
        raise NotStarted(
            f"key: another process already runs the launch {launch.key} in {folder}. Wait until that process ends, or "
            "give another --key.",
            EXIT_HELD,
        )
    newest = newest_attempt(folder)
    if origin and newest == 0:
        fetch_origin(login, data, folder, origin, launch.wait_s, say)
    elif origin:
        began = read_origin(folder)
        if began is None or began.asked != origin:
            raise NotStarted(
                f"from: the launch {launch.key} has begun already, and not from {origin}. Leave out --from to continue "
                "the launch from its newest checkpoint, or give another --key to make a new run."
            )
        _continue_from_own(origin)
    if newest == 0 or read_concluded(attempt_of(folder, newest)) is not None:
        try:
            _open(login, launch, folder, data, newest + 1)
        except Refused as error:
            raise NotStarted(str(error)) from error
        ask_for_attempt(folder, newest + 1)
    write_launch(folder, launch)
    (folder / RESULT_FILE).unlink(missing_ok=True)


def _open(login: Login, launch: Launch, folder: Path, data: Path, number: int | None) -> None:
    """Open an attempt, if the portal can be reached; print what the person has to know. Raises `Refused`.

    With None as its number, only the version of the portal is checked: the host process opens the next attempt of a
    launch that continues, once the rest of the last one is stored.
    """
    problem: Unreachable | None = None
    try:
        check_version(login)
    except Unreachable as error:
        problem = error
    try:
        if number is not None:
            place = open_attempt(login, launch, number, data, APPLICATION, read_origin(folder))
            say(f"run {place.run}: {place.page}")
            write_opened(folder, number, place)
    except Unreachable as error:
        problem = error
    if problem is not None:
        say(f"{problem} {STARTS_ANYWAY}")


def store_rest(data: Path, wait_s: float, key: str = "") -> list[Path]:
    """Send the unsent records of all launches that no process follows; return the folders of those that failed.

    Waits up to `wait_s` seconds for the portal of each. With a `key`, only the launch with this key is sent.
    """
    left = []
    for folder in sorted(path.parent for path in launches_folder(data).glob(f"*/{LAUNCH_FILE}")):
        result = read_result(folder)
        if (result is not None and result.is_stored) or not _is_free(folder):
            continue
        try:
            launch = read_launch(folder)
        except (OSError, Malformed):
            left += [] if key else [folder]
            continue
        if key and launch.key != key:
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


def _refuse_own_processes(options: Options, begun: Start) -> None:
    """Raise `NotStarted` for options that start processes, if the launcher does that."""
    if options.key:
        raise NotStarted(f"key: under {begun.launcher}, the launch already has a key; leave out --key.")
    if options.ranks > 1:
        raise NotStarted(f"nproc: {begun.launcher} sets the number of processes; leave out --nproc.")
    if options.restarts:
        remedy = "give torchrun --max-restarts" if begun.agent else "give sbatch --requeue"
        raise NotStarted(
            f"restarts: under {begun.launcher}, Steersman cannot start the processes again; leave out --restarts, and "
            f"{remedy}."
        )
