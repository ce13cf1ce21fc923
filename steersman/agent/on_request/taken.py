"""The runs that an agent has taken, in files that outlive it.

agents/<name>/agent.lock             held by the agent
agents/<name>/session                identifies the holder of the name in the portal
agents/<name>/runs/<run>.json        a run that was taken
agents/<name>/logs/<run>.log         what its `steersman run` printed
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from steersman.agent.folders import write_whole
from steersman.agent.on_request.offered import LOCAL
from steersman.agent.remote.launches import (
    attempt_of,
    find_launch,
    newest_attempt,
    read_concluded,
    read_result,
)
from steersman.files.private import make_private
from steersman.records.typed_json import Malformed, decode, encode

LOCK_FILE = "agent.lock"
LAST_LINE_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A run that was taken, and how it is started. `after` is the newest attempt of its launch that ended before.

    `pid` and `began_at` identify its `steersman run` on this host, and `job` its Slurm job; 0 and "" before the start.
    """

    run: int
    request: int
    key: str
    name: str
    command: str
    program: list[str]
    directory: str
    environment: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    slots: int = 1
    gpus: list[str] = field(default_factory=list)
    launcher: str = LOCAL
    sbatch_options: list[str] = field(default_factory=list)
    push: str = "none"
    after: int = 0
    pid: int = 0
    began_at: float = 0.0
    job: str = ""


class Shelf:
    """The files of one agent in the data folder."""

    def __init__(self, data: Path, name: str) -> None:
        self.data = data
        self.folder = make_private(data / "agents" / name)
        self._runs = make_private(self.folder / "runs")
        self._logs = make_private(self.folder / "logs")

    def session(self) -> str:
        """Return what identifies this agent in the portal: the same after a restart."""
        path = self.folder / "session"
        try:
            found = path.read_text().strip()
        except OSError:
            found = ""
        if len(found) != 32:
            found = uuid4().hex
            write_whole(path, found)
        return found

    def taken(self) -> Iterator[Taken]:
        """Yield the runs that were taken; a damaged file is left out."""
        for path in sorted(self._runs.glob("*.json")):
            try:
                yield decode(Taken, path.read_bytes())
            except (OSError, Malformed):
                continue

    def keep(self, taken: Taken) -> None:
        write_whole(self._runs / f"{taken.run}.json", encode(taken).decode())

    def forget(self, run: int) -> None:
        (self._runs / f"{run}.json").unlink(missing_ok=True)

    def log_of(self, run: int) -> Path:
        return self._logs / f"{run}.log"

    def last_line(self, run: int) -> str:
        """Return the last line that the start of a run printed, "" if there is none."""
        try:
            with self.log_of(run).open("rb") as log:
                log.seek(max(0, self.log_of(run).stat().st_size - LAST_LINE_BYTES))
                lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return lines[-1].strip().removeprefix("steersman: ") if lines else ""


def ended_before(data: Path, key: str) -> int:
    """Return the newest attempt of a launch that has ended, 0 if there is none."""
    folder = find_launch(data, key)
    newest = newest_attempt(folder) if folder is not None else 0
    if folder is None or not newest or read_concluded(attempt_of(folder, newest)) is not None:
        return newest
    return newest - 1


def has_begun(data: Path, taken: Taken) -> bool:
    """Return whether the training of a taken run was started."""
    folder = find_launch(data, taken.key)
    return folder is not None and newest_attempt(folder) > taken.after


def is_done(data: Path, taken: Taken) -> bool:
    """Return whether the training of a taken run has ended, and the portal has all of it."""
    folder = find_launch(data, taken.key)
    result = read_result(folder) if folder is not None else None
    return result is not None and result.is_stored and has_begun(data, taken)
