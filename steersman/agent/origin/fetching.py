"""Puts the checkpoint at which a launch begins into its folder, as attempt 0.

launches/<id>/origin.json           which checkpoint of which run it is
launches/<id>/attempts/0/           its files, from which attempts resume like from those of an earlier attempt
downloads/<sha256>/                 what has arrived of it: the next `steersman run --from` continues there
downloads/<sha256>.lock             held by the process that fetches it
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.folders import write_whole
from steersman.agent.launchers.problems import NotStarted
from steersman.agent.origin.choosing import BEST, NEWEST, candidates, parse_source
from steersman.exit_codes import EXIT_FAILED
from steersman.files.attempt import origin_path
from steersman.files.checkpoint import MANIFEST, Damaged, Manifest, sync_folder
from steersman.files.checkpoint_copy import copy_checkpoint
from steersman.files.locks import HeldLock, try_lock
from steersman.files.private import make_private
from steersman.portal.logins import Login
from steersman.portal.pulling import Fetchable, FetchableRun, fetchable_run, pull
from steersman.portal.requests import PortalError, Refused
from steersman.records.typed_json import encode
from steersman.starting.messages import read_file

ORIGIN_FILE = "origin.json"
DOWNLOADS = "downloads"
LOOK_INTERVAL_S = 0.1
PLACES = ("launches", "agents/*/launches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The checkpoint at which a launch begins: `sha256` is that of its manifest, `run` the run that saved it.

    `asked` is what a person gave as `--from`.
    """

    asked: str
    run: int
    run_name: str
    sha256: str
    name: str
    step: int
    epoch: int
    size_bytes: int


def read_origin(launch: Path) -> Origin | None:
    """Return the checkpoint at which a launch begins, None if it starts from the beginning."""
    return read_file(Origin, launch / ORIGIN_FILE)


def fetch_origin(
    login: Login, data: Path, launch: Path, asked: str, wait_s: float, tell: Callable[[str], None]
) -> None:
    """Put the checkpoint `asked` into the folder of a launch that has not begun, unless it is there.

    It comes from another launch on this host that has it, or from the portal, which is waited for `wait_s` seconds.
    Calls `tell` with what happens. Raises `NotStarted`.
    """
    if read_origin(launch) is not None:
        return
    run, wanted = parse_source(asked)
    try:
        source = fetchable_run(login, run, wait_s, tell)
        for checkpoint in candidates(source, wanted, _checkpoints_here(data)):
            shown = f"the checkpoint {checkpoint.name} (step {checkpoint.step}) of run {run}"
            fetching = _Fetching(login, data, source, checkpoint, wait_s, tell)
            try:
                fetching.keep_in(launch, asked)
            except Damaged as error:
                if wanted not in (NEWEST, BEST):
                    raise NotStarted(f"from: {shown} is damaged ({error}): choose another one.", EXIT_FAILED) from error
                tell(f"{shown} is damaged ({error}): it is skipped")
            else:
                tell(f"the training begins at {shown}")
                return
    except Refused as error:
        raise NotStarted(f"from: {error}") from error
    except PortalError as error:
        text = f"from: {error} Enter the command again later: the download continues where it stopped."
        raise NotStarted(text, EXIT_FAILED) from error
    except OSError as error:
        text = f"from: the checkpoint cannot be stored in {data} ({error.strerror}). Correct this, then enter the "
        raise NotStarted(text + "command again: the download continues where it stopped.", EXIT_FAILED) from error
    raise NotStarted(f"from: all suitable checkpoints of run {run} are damaged: push another one.", EXIT_FAILED)


def _checkpoints_here(data: Path) -> dict[str, list[Path]]:
    """Return the folders of the checkpoints of all launches on this host by the hash of their manifest."""
    found: dict[str, list[Path]] = {}
    for place in PLACES:
        for path in data.glob(f"{place}/*/attempts/*/checkpoints/*/{MANIFEST}"):
            # Its training may remove it at any moment.
            with suppress(OSError):
                found.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(path.parent)
    return found


@dataclass(frozen=True, slots=True)
class _Fetching:
    """One checkpoint that is fetched."""

    login: Login
    data: Path
    source: FetchableRun
    checkpoint: Fetchable
    wait_s: float
    tell: Callable[[str], None]

    def keep_in(self, launch: Path, asked: str) -> None:
        """Put the files into the folder of a launch, and write which checkpoint they are.

        Raises `Damaged`, `PortalError` and `OSError`.
        """
        lock = self._lock()
        try:
            folder, manifest = self._copied() or self._downloaded()
            target = launch / origin_path(manifest.step)
            shutil.rmtree(target, ignore_errors=True)
            make_private(target.parent)
            os.replace(folder, target)
            sync_folder(target.parent)
        finally:
            lock.release()
        origin = Origin(
            asked=asked,
            run=self.source.run,
            run_name=self.source.name,
            sha256=self.checkpoint.sha256,
            name=self.checkpoint.name,
            step=manifest.step,
            epoch=manifest.epoch,
            size_bytes=self.checkpoint.size_bytes,
        )
        write_whole(launch / ORIGIN_FILE, encode(origin).decode())

    @property
    def _arriving(self) -> Path:
        return make_private(self.data / DOWNLOADS) / self.checkpoint.sha256

    def _lock(self) -> HeldLock:
        """Wait for another process that fetches the same checkpoint."""
        is_told = False
        while (lock := try_lock(self._arriving.with_suffix(".lock"))) is None:
            if not is_told:
                is_told = True
                self.tell(f"waiting for another process that is downloading the checkpoint {self.checkpoint.name}")
            time.sleep(LOOK_INTERVAL_S)
        return lock

    def _copied(self) -> tuple[Path, Manifest] | None:
        """Return a verified copy of the files that another launch on this host has, None if there are none."""
        copy = self._arriving.with_suffix(".copy")
        for path in _checkpoints_here(self.data).get(self.checkpoint.sha256, []):
            shutil.rmtree(copy, ignore_errors=True)
            try:
                manifest = copy_checkpoint(path, copy, self.checkpoint.sha256)
            except Damaged:
                continue
            self.tell(f"the checkpoint {self.checkpoint.name} is on this host already: nothing is downloaded")
            return copy, manifest
        return None

    def _downloaded(self) -> tuple[Path, Manifest]:
        if not self.checkpoint.is_pushed:
            raise Damaged("its files on this host have changed, and the portal has no copy")
        size_mib = self.checkpoint.size_bytes >> 20
        self.tell(f"downloading the checkpoint {self.checkpoint.name} of run {self.source.run} ({size_mib} MiB)")
        folder = self._arriving
        return folder, pull(self.login, self.source.run, self.checkpoint, folder, self.wait_s, self.tell)
