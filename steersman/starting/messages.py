"""The messages of a process that starts a run and its child process, and the files that both use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from steersman.files.private import write_private
from steersman.records.typed_json import Malformed, decode, encode

PLACE_FILE = "place.json"
RESULT_FILE = "result.json"
# In the folder of the attempt: its training process has ended the run, and may continue to exist.
ENDED_FILE = "ended-by-caller.json"
# How long the run's host side waits for the portal after the end, in seconds.
WAIT_S = 30.0
# Which checkpoint is sent to the portal when a run has ended.
PUSHES = ("none", "best", "last")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """The run to start. Empty texts stand for the defaults; `pid` is the process that trains."""

    pid: int
    project: str = ""
    name: str = ""
    portal: str = ""
    push: str = "none"
    command_line: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that can be trained: the folders of its launch and attempt, "" if it could not be started.

    `run` is 0 and `page` is "" if the portal has not opened it yet. `problem` is a sentence for the person.
    `is_refused`: no portal will store it before a person has done something.
    """

    launch: str = ""
    attempt: str = ""
    run: int = 0
    page: str = ""
    problem: str = ""
    is_refused: bool = False


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


@dataclass(frozen=True, slots=True)
class EndedByCaller:
    """The mark of a process that has ended its run."""

    pid: int


def write_ended(attempt: Path, ended: EndedByCaller) -> None:
    """Write the mark. Raises `OSError`."""
    write_private(attempt / ENDED_FILE, encode(ended).decode())


def read_file(kind: type[Item], path: Path) -> Item | None:
    """Return what a file has, None if it is missing or incomplete."""
    try:
        return decode(kind, path.read_bytes())
    except (OSError, Malformed):
        return None


def opened_path(attempt: Path) -> Path:
    """Return the file with the place of an attempt that the portal opened before it began. It is outside the attempt's
    folder, which is made when the training starts."""
    return attempt.parent.parent / f"opened-{attempt.name}.json"


def read_place(attempt: Path) -> Place | None:
    """Return where an attempt is in the portal, None if the portal did not open it yet."""
    return read_file(Place, attempt / PLACE_FILE) or read_file(Place, opened_path(attempt))
