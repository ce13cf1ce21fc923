"""Sends the checkpoint that a launch asks for to its portal, after the training has ended."""

from __future__ import annotations

import hashlib
from pathlib import Path

from steersman.agent.remote.launches import Launch, attempt_of, newest_attempt
from steersman.agent.remote.resuming import checkpoints_of
from steersman.agent.remote.terminal import say
from steersman.files.checkpoint import MANIFEST, Damaged, read_manifest
from steersman.portal.logins import Login
from steersman.portal.pushing import push
from steersman.portal.requests import PortalError
from steersman.starting.messages import read_place

BEST = "best"


def push_chosen(login: Login, folder: Path, launch: Launch) -> None:
    """Push the checkpoint that a launch asks for. A problem is printed, and does not change the training's outcome."""
    if launch.push == "none":
        return
    place = read_place(attempt_of(folder, newest_attempt(folder)))
    chosen = _chosen(folder, launch.push)
    if chosen is None or place is None:
        say(f"no checkpoint is pushed: the training saved none that --push {launch.push} selects")
        return
    try:
        push(login, place.run, chosen, launch.wait_s, say)
    except (PortalError, OSError, Damaged) as error:
        say(f"the checkpoint {chosen} was not pushed ({error}): run `steersman push {chosen}`")
    else:
        say(f"the checkpoint {chosen.name} is in the portal")


def _chosen(folder: Path, kind: str) -> Path | None:
    """Return the newest checkpoint of all attempts, or the newest of those saved as the best."""
    for path in checkpoints_of(folder):
        if kind != BEST or _reason(path) == BEST:
            return path
    return None


def _reason(folder: Path) -> str:
    """Return why a checkpoint was saved, "" if it is damaged."""
    try:
        return read_manifest(folder, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()).reason
    except (OSError, Damaged):
        return ""
