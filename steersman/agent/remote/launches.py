"""A launch and its files: what was started, as which run of which portal, and how it has ended.

launches/<id>/launch.json                what was started
launches/<id>/supervisor.lock            held by the process that follows it
launches/<id>/opened.json                the run and the first attempt, if the portal opened them before the start
launches/<id>/result.json                how it has ended
launches/<id>/attempts/<n>/place.json    the run and the attempt in the portal
launches/<id>/attempts/<n>/concluded.json    what the portal recorded about its end
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from steersman.agent.folders import write_whole
from steersman.files.private import make_private
from steersman.messages.ended import Concluded
from steersman.records.typed_json import decode, encode
from steersman.starting.messages import PLACE_FILE, RESULT_FILE, Place, Result, read_file

LAUNCH_FILE = "launch.json"
OPENED_FILE = "opened.json"
CONCLUDED_FILE = "concluded.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What was started. `key` names it in the portal, `parent` is the process at the terminal.

    `portal` is "" if none is known; `project` is "" for that of the token. `wait_s` is how long to wait for the portal
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
    of_caller: bool = False
    push: str = "none"


def launches_folder(data: Path) -> Path:
    return data / "launches"


def make_launch(data: Path, launch: Launch) -> Path:
    """Make the folder of a new launch; return it. Raises `OSError`."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{launch.key[:8]}"
    folder = make_private(launches_folder(data) / name)
    make_private(folder / "attempts")
    write_launch(folder, launch)
    return folder


def write_launch(folder: Path, launch: Launch) -> None:
    """Write what was started. Raises `OSError`."""
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


def write_opened(folder: Path, place: Place) -> None:
    """Write where the first attempt is; its folder is made when the training starts."""
    write_whole(folder / OPENED_FILE, encode(place).decode())


def write_place(attempt: Path, place: Place) -> None:
    write_whole(attempt / PLACE_FILE, encode(place).decode())


def read_place(attempt: Path) -> Place | None:
    """Return where an attempt is in the portal, None if the portal did not open it yet."""
    found = read_file(Place, attempt / PLACE_FILE)
    return found or (read_file(Place, attempt.parent.parent / OPENED_FILE) if attempt.name == "1" else None)


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
