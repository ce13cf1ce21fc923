"""`steersman run` and `steersman sync`: a training on this machine, recorded by a portal elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from steersman.command_line.problems import Problem
from steersman.exit_codes import EXIT_FAILED, EXIT_FINISHED
from steersman.files.data_folder import DATA_VARIABLE, TRAININGS_FOLDER, UnfitFolder, training_data_folder
from steersman.portal.addresses import BadAddress
from steersman.portal.logins import Login, NoLogin, login_to_use
from steersman.starting.messages import PUSHES

WAIT_S = 600.0
SYNC_WAIT_S = 30.0
MOST_RESTARTS = 100
MOST_RANKS = 1024
LONGEST_NAME = 200
LONGEST_KEY = 90


def add_commands(commands: Any) -> None:
    """Add the commands to what `argparse.ArgumentParser.add_subparsers` returned."""
    run = commands.add_parser(
        "run",
        help="train with your own program, and record the training in a portal",
        usage="steersman run [options] -- python train.py ...",
        description="Start a training on this machine as a run of a portal. The exit code is that of the training: 0 "
        "if it finished or was stopped. 2: bad input. 130: a second Ctrl-C.",
    )
    run.add_argument(
        "--portal", default="", help="address of the portal; default: STEERSMAN_PORTAL, or the newest login"
    )
    run.add_argument(
        "--project", default="", metavar="P", help="create the run in this project, which must be that of the token"
    )
    run.add_argument("--name", default="", help="name of the run; default: that of the program")
    run.add_argument(
        "--restarts", type=_count("restarts", 0, MOST_RESTARTS), default=0, metavar="K",
        help="after a crash, start again from the newest checkpoint, at most K times",
    )  # fmt: skip
    run.add_argument(
        "--nproc", type=_count("nproc", 1, MOST_RANKS), default=1, metavar="K",
        help="train with K processes on this machine, as torchrun would start them",
    )  # fmt: skip
    run.add_argument(
        "--wait", type=_seconds, default=WAIT_S, metavar="SECONDS",
        help="how long to wait after the end for a portal that does not answer (default: %(default).0f)",
    )  # fmt: skip
    run.add_argument(
        "--key", type=_key,
        help="a name for the launch: if you use the same key again, the run continues from its newest checkpoint",
    )  # fmt: skip
    run.add_argument(
        "--push", choices=PUSHES, default="none",
        help="send this checkpoint to the portal when the training has ended (default: none)",
    )  # fmt: skip
    run.add_argument(
        "--from", dest="origin", type=_origin, metavar="RUN[:CHECKPOINT]",
        help="begin a new run at a checkpoint that was pushed to the portal, and download it unless this machine has "
        "it; CHECKPOINT is an id, a step, a name, best, or newest (the default)",
    )  # fmt: skip
    run.add_argument("program", nargs=argparse.REMAINDER, help="after --: the program and its arguments")
    run.set_defaults(function=run_training)
    sync = commands.add_parser(
        "sync",
        help="send what a portal could not store because it was unreachable",
        description=f"Send the records of trainings in {DATA_VARIABLE} (default: ./{TRAININGS_FOLDER}) that their "
        "portals have not stored yet. Exit code 1: some could not be sent.",
    )
    sync.add_argument(
        "--wait", type=_seconds, default=SYNC_WAIT_S, metavar="SECONDS",
        help="how long to wait for each portal (default: %(default).0f)",
    )  # fmt: skip
    sync.add_argument("--key", type=_key, help="send only the records of the launch with this key")
    sync.set_defaults(function=send_rest)


def run_training(chosen: argparse.Namespace) -> int:
    """Open a run and train; return the exit code of the training."""
    script = chosen.program[1:] if chosen.program[:1] == ["--"] else chosen.program
    if not script:
        raise Problem("program: give the program after --, as in steersman run -- python train.py")
    started = _remote()
    login = login_of(chosen.portal)
    data = data_folder()
    options = started.Options(
        script=script,
        name=chosen.name.strip()[:LONGEST_NAME],
        ranks=chosen.nproc,
        restarts=chosen.restarts,
        wait_s=chosen.wait,
        push=chosen.push,
        project=chosen.project.strip()[:LONGEST_NAME],
        started=["steersman", *sys.argv[1:]],
        key=chosen.key or "",
        origin=chosen.origin or "",
    )
    try:
        code: int = started.start(login, data, options)
    except started.NotStarted as error:
        raise Problem(str(error), error.exit_code) from error
    return code


def send_rest(chosen: argparse.Namespace) -> int:
    """Send the records that portals have not stored yet; return 0 if all are stored then."""
    started = _remote()
    left: list[Path] = started.store_rest(data_folder(), chosen.wait, chosen.key or "")
    for folder in left:
        print(f"Not stored: {folder}")
    return EXIT_FAILED if left else EXIT_FINISHED


def _remote() -> Any:
    """Return the module that starts trainings. Raises `Problem` if what it needs is not installed."""
    try:
        from steersman.agent.remote import starting
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "steersman":
            raise
        raise Problem(
            f"the package {error.name} is missing: run pip install 'steersman[agent]'", EXIT_FAILED
        ) from error
    return starting


def login_of(portal: str) -> Login:
    try:
        return login_to_use(portal, os.environ)
    except NoLogin as error:
        raise Problem(str(error)) from error
    except BadAddress as error:
        raise Problem(f"portal: {error}") from error


def data_folder() -> Path:
    """Return the folder for the records of trainings; make it if it is missing. Raises `Problem`."""
    try:
        return training_data_folder(os.environ)
    except UnfitFolder as error:
        raise Problem(str(error)) from error


def _count(name: str, least: int, most: int) -> Any:
    def read(text: str) -> int:
        if not text.isdecimal() or len(text) > 9 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"give a whole number from {least} to {most}")
        return int(text)

    read.__name__ = name
    return read


def _key(text: str) -> str:
    if not 0 < len(text) <= LONGEST_KEY or not text.isprintable():
        raise argparse.ArgumentTypeError(f"give one line of text of at most {LONGEST_KEY} characters")
    return text


def _origin(text: str) -> str:
    run, colon, checkpoint = text.strip().partition(":")
    number = run.removeprefix("#")
    if not (number.isascii() and number.isdecimal() and len(number) <= 18) or (colon and not checkpoint):
        raise argparse.ArgumentTypeError("give the number of a run, as in 12, or with a checkpoint, as in 12:best")
    return f"{int(number)}{colon}{checkpoint}"


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found < 1e9:
        raise argparse.ArgumentTypeError("give a number of seconds, 0 or more")
    return found
