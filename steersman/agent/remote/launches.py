"""A launch and its files: what was started, as which run of which portal, and how it has ended.

launches/<id>/launch.json                what was started; written again when a launcher starts it again
launches/<id>/supervisor.lock            held by the process that follows it
launches/<id>/opened-<n>.json            the run and the attempt, if the portal opened it before its start
launches/<id>/next.json                  the attempt that a person or a queue asks for after those that have ended
launches/<id>/result.json                how it has ended
launches/<id>/attempts/<n>/identity      which start of a launcher it belongs to
launches/<id>/attempts/<n>/removed.json  the checkpoints of earlier attempts that it has replaced
launches/<id>/attempts/<n>/place.json    the run and the attempt in the portal
launches/<id>/attempts/<n>/concluded.json    what the portal recorded about its end
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from steersman.agent.folders import write_whole
from steersman.agent.launch.torchrun import Launch as Ranks
from steersman.files.private import make_private
from steersman.messages.ended import Concluded
from steersman.records.typed_json import decode, encode
from steersman.starting.messages import PLACE_FILE, RESULT_FILE, Place, Result, opened_path, read_file

LAUNCH_FILE = "launch.json"
NEXT_FILE = "next.json"
IDENTITY_FILE = "identity"
REMOVED_FILE = "removed.json"
CONCLUDED_FILE = "concluded.json"
NOT_IN_A_FOLDER_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What was started. `key` names it in the portal, `parent` is the process at the terminal.

    `started` is the command that a person entered in `folder`, as words; `project` is the one that it names, "" for
    that of the token. `portal` is "" if none is known. `turn`, `agent`, `identity` and `slurm_job` say which start of a
    launcher it is, "" if a person started it (see `steersman.agent.launchers.starts.Start`); with `beside`, this host
    process trains only rank 0, and the other ranks are started beside it. `wait_s` is how long to wait for the portal
    after the training has ended, in seconds; `push` says which checkpoint is then sent to it (see `PUSHES`). If the run
    is `of_caller`, `parent` itself trains, and started it by `steersman.start()`.
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
    of_caller: bool = False
    turn: str = ""
    agent: str = ""
    identity: str = ""
    slurm_job: str = ""
    beside: Ranks | None = None
    push: str = "none"


@dataclass(frozen=True, slots=True)
class Next:
    """The number of an attempt that is to begin, counted on this host."""

    attempt: int


def launches_folder(data: Path) -> Path:
    return data / "launches"


def make_launch(data: Path, launch: Launch) -> Path:
    """Make the folder of a new launch; return it. Raises `OSError`."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{NOT_IN_A_FOLDER_NAME.sub('-', launch.key[:8])}"
    return make_folder(launches_folder(data) / name, launch)


def make_folder(folder: Path, launch: Launch) -> Path:
    """Make the folder of a launch; return it. Raises `OSError`."""
    make_private(folder)
    make_private(folder / "attempts")
    write_launch(folder, launch)
    return folder


def write_launch(folder: Path, launch: Launch) -> None:
    """Write what was started. Raises `OSError`."""
    write_whole(folder / LAUNCH_FILE, encode(launch).decode())


def find_launch(data: Path, key: str) -> Path | None:
    """Return the folder of the launch with a key, None if there is none."""
    for path in sorted(launches_folder(data).glob(f"*/{LAUNCH_FILE}")):
        launch = read_file(Launch, path)
        if launch is not None and launch.key == key:
            return path.parent
    return None


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
    return read_file(Removed, attempt / REMOVED_FILE) or Removed()


def write_opened(folder: Path, number: int, place: Place) -> None:
    """Write where an attempt is in the portal; its folder is made when the training starts."""
    write_whole(opened_path(attempt_of(folder, number)), encode(place).decode())


def ask_for_attempt(folder: Path, number: int) -> None:
    """Ask the host process to begin an attempt after those that have ended."""
    write_whole(folder / NEXT_FILE, encode(Next(number)).decode())


def attempt_asked_for(folder: Path) -> int:
    """Return the attempt that is to begin, 0 if none was asked for. It may have begun already."""
    found = read_file(Next, folder / NEXT_FILE)
    return found.attempt if found is not None else 0


def write_place(attempt: Path, place: Place) -> None:
    write_whole(attempt / PLACE_FILE, encode(place).decode())


def write_concluded(attempt: Path, concluded: Concluded) -> None:
    write_whole(attempt / CONCLUDED_FILE, encode(concluded).decode())


def read_concluded(attempt: Path) -> Concluded | None:
    """Return what the portal recorded about the end of an attempt, None if it did not yet."""
    return read_file(Concluded, attempt / CONCLUDED_FILE)


def write_result(folder: Path, result: Result) -> None:
    write_whole(folder / RESULT_FILE, encode(result).decode())


def read_result(folder: Path) -> Result | None:
    """Return how a launch has ended, None if it has not."""
    return read_file(Result, folder / RESULT_FILE)
