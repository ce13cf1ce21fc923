"""Pushes a checkpoint to its portal in pieces. An interrupted push continues where it stopped.

Standard library only.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from steersman.files.checkpoint import MANIFEST, Damaged, read_manifest
from steersman.portal.logins import Login
from steersman.portal.requests import RUNS, Refused, Unreachable, ask, not_a_portal, send
from steersman.records.typed_json import Malformed, decode

PIECE_BYTES = 2 << 20
MISPLACED = 409
PAUSE_S = 1.0
# The portal reads the whole checkpoint again to verify it.
VERIFIED_WITHIN_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Copy:
    """What the portal has of a checkpoint: the size of each file in bytes, and what was damaged of an earlier copy."""

    is_complete: bool = False
    is_being_stored: bool = False
    received: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


def push(login: Login, run: int, folder: Path, wait_s: float, tell: Callable[[str], None]) -> None:
    """Push the checkpoint in `folder` to run `run` of a portal. Waits up to `wait_s` seconds in turn for its answers.

    Calls `tell` with a sentence when it waits, and when it repairs a damaged copy. Raises `PortalError`, `OSError`, and
    `Damaged` if `folder` is no checkpoint.
    """
    try:
        sha256 = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        raise Damaged("it is missing or incomplete") from None
    files = [*sorted(read_manifest(folder, sha256).files), MANIFEST]
    place = f"{RUNS}{run}/copies/{sha256}/"
    silent_since: float | None = None

    def progress() -> None:
        # A portal whose storage is unavailable still answers: only pieces that it takes are progress.
        nonlocal silent_since
        silent_since = None

    while True:
        try:
            found = _copy(login, send(login, "GET", place))
            if found.is_being_stored:
                # An earlier request, whose answer was lost, is still at work.
                progress()
                time.sleep(PAUSE_S)
                continue
            for name in [] if found.is_complete else files:
                _push_file(login, f"{place}{name}/", folder / name, found.received.get(name, 0), progress)
            # A copy from an earlier push is verified too.
            ended = _copy(login, ask(login, place, {}, VERIFIED_WITHIN_S))
            if not ended.damaged:
                return
            progress()
            tell(f"The copy in the portal is damaged ({', '.join(ended.damaged)}): the checkpoint is sent again.")
        except Unreachable as error:
            now = time.monotonic()
            if silent_since is None:
                silent_since = now
                tell(f"{error} The push continues when the portal answers.")
            if now - silent_since >= wait_s:
                raise
            time.sleep(min(PAUSE_S, wait_s))
        except Refused as error:
            # A piece whose answer was lost has arrived: ask again where to continue.
            if error.status != MISPLACED:
                raise


def _push_file(login: Login, place: str, path: Path, offset: int, progress: Callable[[], None]) -> None:
    with path.open("rb") as file:
        file.seek(offset)
        while (data := file.read(PIECE_BYTES)) or offset == 0:
            send(login, "PUT", f"{place}?{urlencode({'offset': offset})}", data)
            if not data:
                return
            progress()
            offset += len(data)


def _copy(login: Login, answer: bytes) -> _Copy:
    try:
        return decode(_Copy, answer)
    except Malformed as error:
        raise Refused(not_a_portal(login.address)) from error
