"""The child of a process that calls `steersman.start()`: opens its run, answers, and has the host side follow it.

It reads one `NewRun` from standard input and writes one `Begun` to standard output. Later messages are written to a
file in the folder of the launch, because the parent may have ended, and a notebook does not show its standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil

from steersman.agent.folders import WorkerProcess
from steersman.agent.launch.attempt_folder import make_attempt_folder
from steersman.agent.remote.launches import (
    Launch,
    attempt_of,
    make_launch,
    new_key,
    write_launch,
    write_place,
)
from steersman.agent.remote.opening import open_attempt
from steersman.agent.remote.packages import APPLICATION, STOP_SIGNAL_VARIABLE
from steersman.agent.remote.parent import supervised
from steersman.agent.remote.portal_link import check_version
from steersman.exit_codes import EXIT_FAILED
from steersman.files.data_folder import UnfitFolder, training_data_folder
from steersman.files.journal_bound import journal_bound_bytes
from steersman.files.private import open_private
from steersman.portal.addresses import BadAddress
from steersman.portal.logins import Login, NoLogin, login_to_use
from steersman.portal.requests import Refused, Unreachable
from steersman.records.typed_json import decode, encode
from steersman.starting.messages import WAIT_S, Begun, NewRun

LOG_FILE = "host.log"
HERE_ONLY = "The run is recorded in {folder}. To send it to a portal later, run steersman sync there."
UNTIL_IT_ANSWERS = "The run is recorded on this machine, and is sent to the portal as soon as the portal answers."


def begin(new_run: NewRun) -> Begun:
    """Make the folders of a run, and open it in its portal if that is possible. A problem with the portal prevents
    nothing."""
    try:
        data = training_data_folder(os.environ)
    except UnfitFolder as error:
        return Begun(problem=f"{error} This run is not recorded.")
    login, problem = _login(new_run)
    launch = Launch(
        key=new_key(),
        portal=login.address if login is not None else "",
        name=new_run.name,
        script=new_run.command_line,
        parent=new_run.pid,
        wait_s=WAIT_S,
        project=new_run.project,
        push=new_run.push,
        of_caller=True,
    )
    try:
        folder = make_launch(data, launch)
        attempt = attempt_of(folder, 1)
        bound_mib = journal_bound_bytes(os.environ) >> 20
        make_attempt_folder(attempt, data, APPLICATION.parent, resume=None, changed_knobs={}, journal_mib=bound_mib)
        WorkerProcess.of(new_run.pid).record(attempt)
    except OSError as error:
        return Begun(
            problem=f"The data folder {data} cannot be written to ({error.strerror}). This run is not recorded."
        )
    begun = Begun(launch=str(folder), attempt=str(attempt))
    if login is None:
        return replace(begun, problem=f"{problem} {HERE_ONLY.format(folder=data)}", is_refused=True)
    return _opened(begun, login, launch, data)


def _login(new_run: NewRun) -> tuple[Login | None, str]:
    """Return the login to use; None with the reason if there is none."""
    try:
        return login_to_use(new_run.portal, os.environ), ""
    except NoLogin as error:
        return None, str(error)
    except BadAddress as error:
        return None, f"portal: {error}."


def _opened(begun: Begun, login: Login, launch: Launch, data: Path) -> Begun:
    try:
        check_version(login)
        place = open_attempt(login, launch, 1, data, APPLICATION)
    except Unreachable as error:
        return replace(begun, problem=f"{error} {UNTIL_IT_ANSWERS}")
    except Refused as error:
        # During the run, requests to the portal are repeated. After the end, nothing waits for the portal.
        write_launch(Path(begun.launch), replace(launch, wait_s=0.0))
        return replace(begun, problem=f"{error} {HERE_ONLY.format(folder=data)}", is_refused=True)
    write_place(Path(begun.attempt), place)
    return replace(begun, run=place.run, page=place.page)


def main() -> int:
    new_run = decode(NewRun, sys.stdin.buffer.read())
    # It says which signal asks a training at a terminal to stop.
    os.environ.pop(STOP_SIGNAL_VARIABLE, None)
    try:
        begun = begin(new_run)
    except psutil.NoSuchProcess:
        return EXIT_FAILED
    sys.stdout.buffer.write(b"\n" + encode(begun) + b"\n")
    sys.stdout.buffer.flush()
    if not begun.attempt:
        return EXIT_FAILED
    with open_private(Path(begun.launch) / LOG_FILE, "ab") as log:
        # The parent waits until both are closed.
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    return supervised(Path(begun.launch), 0, [signal.SIGTERM])
