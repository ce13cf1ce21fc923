"""A launch and its files: what was started, as which run of which portal, and how it has ended.

launches/<id>/launch.json                what was started; written again when a launcher starts it again
launches/<id>/supervisor.lock            held by the process that follows it
launches/<id>/opened.json                the run and the first attempt, if the portal opened them before the start
launches/<id>/result.json                how it has ended
launches/<id>/attempts/<n>/identity      which start of a launcher it belongs to
launches/<id>/attempts/<n>/removed.json  the checkpoints of earlier attempts that it has replaced
launches/<id>/attempts/<n>/place.json    the run and the attempt in the portal
launches/<id>/attempts/<n>/concluded.json    what the portal recorded about its end
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from steersman.agent.folders import write_whole
from steersman.agent.launch.torchrun import Launch as Ranks
from steersman.files.private import make_private
from steersman.messages.ended import Concluded
from steersman.records.typed_json import Malformed, decode, encode

LAUNCH_FILE = "launch.json"
RESULT_FILE = "result.json"
OPENED_FILE = "opened.json"
PLACE_FILE = "place.json"
IDENTITY_FILE = "identity"
REMOVED_FILE = "removed.json"
CONCLUDED_FILE = "concluded.json"
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What was started. `key` names it in the portal, `parent` is the process at the terminal.

    `started` is the command that a person entered in `folder`, as words; `project` is the one that it names, "" for
    that of the token. `turn`, `agent`, `identity` and `slurm_job` say which start of a launcher it is, "" if a person
    started it (see `steersman.agent.remote.launchers.Start`); with `beside`, this host process trains only rank 0, and
    the other ranks are started beside it. `wait_s` is how long to wait for the portal after the training has ended, in
    seconds.
    """

    key: str
    portal: str
    name: str
    script: list[str]
    parent: int
    ranks: int = 1
    restarts: int = 0
    wait_s: float = 600.0
    project: str = ""
    started: list[str] = field(default_factory=list)
    folder: str = ""
    turn: str = ""
    agent: str = ""
    identity: str = ""
    slurm_job: str = ""
    beside: Ranks | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A run and an attempt of a portal, by their numbers, and the address of the run's page."""

    run: int
    attempt: int
    page: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The exit code of a launch that has ended. `is_stored`: the portal has all of it."""

    code: int
    is_stored: bool


def launches_folder(data: Path) -> Path:
    return data / "launches"


def make_launch(data: Path, launch: Launch) -> Path:
    """Make the folder of a new launch; return it. Raises `OSError`."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{launch.key[:8]}"
    return make_folder(launches_folder(data) / name, launch)


def make_folder(folder: Path, launch: Launch) -> Path:
    """Make the folder of a launch; return it. Raises `OSError`."""
    make_private(folder)
    make_private(folder / "attempts")
    write_launch(folder, launch)
    return folder


def write_launch(folder: Path, launch: Launch) -> None:
    write_whole(folder / LAUNCH_FILE, encode(launch).decode())


def new_key() -> str:
    return uuid4().hex


def read_launch(folder: Path) -> Launch:
    """Return the launch of a folder. Raises `OSError` and `Malformed`."""
    return decode(Launch, (folder / LAUNCH_FILE).read_bytes())


def attempt_of(folder: Path, number: int) -> Path:
    return folder / "attempts" / str(number)


def newest_attempt(folder: Path) -> int:
    """Return the number of the newest attempt of a launch, 0 if there is none."""
    return max((int(path.name) for path in (folder / "attempts").iterdir() if path.name.isdecimal()), default=0)


def write_identity(attempt: Path, identity: str) -> None:
    """Write which start of a launcher an attempt belongs to."""
    write_whole(attempt / IDENTITY_FILE, identity)


def read_identity(attempt: Path) -> str:
    """Return which start of a launcher an attempt belongs to, "" if a person started it."""
    try:
        return (attempt / IDENTITY_FILE).read_text()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Removed:
    """Checkpoints of earlier attempts that were removed when an attempt began, as a report names them."""

    paths: list[str] = field(default_factory=list)


def write_removed(attempt: Path, removed: Removed) -> None:
    write_whole(attempt / REMOVED_FILE, encode(removed).decode())


def read_removed(attempt: Path) -> Removed:
    """Return which checkpoints of earlier attempts were removed when an attempt began."""
    return _read(Removed, attempt / REMOVED_FILE) or Removed()


def write_opened(folder: Path, place: Place) -> None:
    """Write where the first attempt is; its folder is made when the training starts."""
    write_whole(folder / OPENED_FILE, encode(place).decode())


def write_place(attempt: Path, place: Place) -> None:
    write_whole(attempt / PLACE_FILE, encode(place).decode())


def read_place(attempt: Path) -> Place | None:
    """Return where an attempt is in the portal, None if the portal did not open it yet."""
    found = _read(Place, attempt / PLACE_FILE)
    return found or (_read(Place, attempt.parent.parent / OPENED_FILE) if attempt.name == "1" else None)


def write_concluded(attempt: Path, concluded: Concluded) -> None:
    write_whole(attempt / CONCLUDED_FILE, encode(concluded).decode())


def read_concluded(attempt: Path) -> Concluded | None:
    """Return what the portal recorded about the end of an attempt, None if it did not yet."""
    return _read(Concluded, attempt / CONCLUDED_FILE)


def write_result(folder: Path, result: Result) -> None:
    write_whole(folder / RESULT_FILE, encode(result).decode())


def read_result(folder: Path) -> Result | None:
    """Return how a launch has ended, None if it has not."""
    return _read(Result, folder / RESULT_FILE)


def _read(kind: type[Item], path: Path) -> Item | None:
    try:
        return decode(kind, path.read_bytes())
    except (OSError, Malformed):
        return None
