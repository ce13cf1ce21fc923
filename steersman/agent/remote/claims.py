"""Finds the launch that a launcher's start continues, or makes a new one.

A job may train several runs, with different commands or with the same one several times. A job that Slurm runs again
repeats its commands in the same order, so the n-th launch of a command continues the n-th launch of the earlier turn.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from steersman.agent.launch.ended_file import recorded_ended
from steersman.agent.launchers.starts import Start
from steersman.agent.remote.launches import (
    LAUNCH_FILE,
    Launch,
    attempt_of,
    launches_folder,
    make_folder,
    make_launch,
    newest_attempt,
    read_concluded,
    read_launch,
    write_launch,
)
from steersman.files.locks import HeldLock, try_lock
from steersman.files.private import make_private
from steersman.starting.messages import RESULT_FILE

CLAIM_LOCK = "claim.lock"
LOOK_INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class Claimed:
    """The folder of a launch. `is_new`: nothing of it was started before; `has_finished`: nothing is left to do."""

    folder: Path
    launch: Launch
    is_new: bool
    has_finished: bool = False


def claim(data: Path, launch: Launch, start: Start, origin: str = "") -> Claimed:
    """Return the launch that `start` continues, else `launch` in a new folder. Raises `OSError` and `Malformed`.

    `origin` is the checkpoint of another run at which a new launch begins, "" if there is none.
    """
    if not start.job:
        return Claimed(make_launch(data, launch), launch, is_new=True)
    place = make_private(launches_folder(data))
    launch = replace(
        launch,
        turn=start.turn,
        agent=start.agent,
        identity=start.identity,
        slurm_job=start.slurm_job,
        beside=start.ranks,
        ranks=start.ranks.ranks if start.ranks else launch.ranks,
    )
    words = [launch.name, launch.folder, launch.project, launch.portal, *launch.script]
    key = start.key([*words, *([f"--from {origin}"] if origin else [])])
    lock = _lock(place / CLAIM_LOCK)
    try:
        for number in count(1):
            folder = place / f"{key}-{number}"
            named = replace(launch, key=folder.name)
            if not (folder / LAUNCH_FILE).exists():
                return Claimed(make_folder(folder, named), named, is_new=True)
            before = read_launch(folder)
            if start.continues(before.turn, before.agent):
                write_launch(folder, named)
                (folder / RESULT_FILE).unlink(missing_ok=True)
                number_before = newest_attempt(folder)
                return Claimed(folder, named, is_new=number_before == 0, has_finished=_has_finished(folder))
    finally:
        lock.release()
    raise AssertionError("unreachable")


def _lock(path: Path) -> HeldLock:
    """Wait for the lock under which launches are claimed; it is held for milliseconds."""
    while (lock := try_lock(path)) is None:
        time.sleep(LOOK_INTERVAL_S)
    lock.note(str(os.getpid()))
    return lock


def _has_finished(folder: Path) -> bool:
    """Return whether the newest attempt of a launch has finished, also if the portal does not know it yet."""
    number = newest_attempt(folder)
    if number == 0:
        return False
    attempt = attempt_of(folder, number)
    concluded, ended = read_concluded(attempt), recorded_ended(attempt)
    if concluded is not None:
        return concluded.state == "finished"
    words = ended.last_words if ended is not None else None
    return words is not None and words.outcome == "finished" and ended is not None and ended.code == 0
