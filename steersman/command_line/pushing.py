"""`steersman push`: a copy of a checkpoint for the portal."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steersman.command_line.problems import Problem
from steersman.exit_codes import EXIT_FAILED, EXIT_FINISHED
from steersman.files.checkpoint import Damaged
from steersman.portal.addresses import BadAddress
from steersman.portal.logins import NoLogin, login_to_use
from steersman.portal.pushing import push
from steersman.portal.requests import PortalError
from steersman.records.typed_json import Malformed, decode
from steersman.starting.messages import read_place

WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class _Launch:
    """The part of a launch's file that says which portal it belongs to."""

    portal: str = ""


def add_commands(commands: Any) -> None:
    """Add the command to what `argparse.ArgumentParser.add_subparsers` returned."""
    found = commands.add_parser(
        "push",
        help="send a checkpoint to the portal of its run",
        description="Send a checkpoint to the portal of its run, where it can then be downloaded. An "
        "interrupted push continues where it stopped.",
    )
    found.add_argument("checkpoint", help="folder of the checkpoint, with its manifest.json")
    found.set_defaults(function=push_checkpoint)


def push_checkpoint(chosen: argparse.Namespace) -> int:
    """Push a checkpoint; return the exit code."""
    folder = Path(chosen.checkpoint).resolve()
    attempt = folder.parent.parent
    place = read_place(attempt)
    if place is None:
        raise Problem(
            f"checkpoint: {folder} does not belong to a run that is in a portal. Give the folder of a checkpoint, such "
            "as steersman-runs/launches/…/attempts/1/checkpoints/step-0001000. If the portal was unreachable during "
            "the training, run steersman sync first."
        )
    try:
        login = login_to_use(_portal(attempt), os.environ)
        push(login, place.run, folder, WAIT_S, _tell)
    except (BadAddress, NoLogin) as error:
        raise Problem(str(error)) from error
    except Damaged as error:
        raise Problem(f"checkpoint: {folder}: {error}.") from error
    except PortalError as error:
        raise Problem(str(error), EXIT_FAILED) from error
    except OSError as error:
        raise Problem(f"checkpoint: {folder} cannot be read: {error.strerror}.", EXIT_FAILED) from error
    print(f"Pushed to run {place.run}: {place.page}")
    return EXIT_FINISHED


def _portal(attempt: Path) -> str:
    """Return the address of the portal of a launch."""
    path = attempt.parent.parent / "launch.json"
    try:
        return decode(_Launch, path.read_bytes()).portal
    except (OSError, Malformed):
        return ""


def _tell(text: str) -> None:
    print(f"steersman: {text}", file=sys.stderr)
