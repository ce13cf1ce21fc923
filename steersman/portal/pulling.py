"""Fetches a pushed checkpoint from a portal. A download that was cut goes on where it stopped. Only uses the standard
library.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

from steersman.files.checkpoint import (
    LARGEST_MANIFEST_BYTES,
    MANIFEST,
    Damaged,
    Manifest,
    read_manifest,
    verify,
    write_atomically,
)
from steersman.files.private import make_private, open_private
from steersman.portal.logins import Login
from steersman.portal.requests import RUNS, Refused, Unreachable, not_a_portal, send, stream
from steersman.records.typed_json import Malformed, decode

PAUSE_S = 1.0
TOLD_EVERY_S = 10.0
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Fetchable:
    """A checkpoint of a run; `sha256` is that of its manifest. Unless it `is_pushed`, only its own host has it."""

    id: int
    name: str
    step: int
    epoch: int
    sha256: str
    size_bytes: int
    reason: str
    abandoned: bool = False
    is_pushed: bool = False


@dataclass(frozen=True, slots=True)
class FetchableRun:
    """A run of a portal and its newest checkpoints, the newest first."""

    run: int
    name: str
    checkpoints: list[Fetchable] = field(default_factory=list)


def fetchable_run(login: Login, run: int, wait_s: float, tell: Callable[[str], None]) -> FetchableRun:
    """Ask a portal for the checkpoints of a run. Waits up to `wait_s` seconds for it. Raises `PortalError`."""
    answer = _Patience(wait_s, tell).call(lambda: send(login, "GET", f"{RUNS}{run}/copies/"))
    try:
        return decode(FetchableRun, answer)
    except Malformed as error:
        raise Refused(not_a_portal(login.address)) from error


def pull(
    login: Login, run: int, checkpoint: Fetchable, folder: Path, wait_s: float, tell: Callable[[str], None]
) -> Manifest:
    """Fetch a pushed checkpoint into `folder`, which may have a part of it; return its manifest.

    Every file is verified. Waits up to `wait_s` seconds in turn for the portal, and calls `tell` with a sentence when
    it waits, and with what has arrived. Raises `PortalError`, `OSError`, and `Damaged` if the portal has other files.
    """
    return _Pull(login, f"{RUNS}{run}/copies/{checkpoint.sha256}/", checkpoint, folder, wait_s, tell).run()


class _Patience:
    """Repeats what fails while a portal does not answer."""

    def __init__(self, wait_s: float, tell: Callable[[str], None]) -> None:
        self._wait_s = wait_s
        self._tell = tell
        self._silent_since: float | None = None

    def call(self, ask: Callable[[], Result]) -> Result:
        """Return what `ask` returns. Raises what it raises; `Unreachable` only after `wait_s` seconds in turn."""
        while True:
            try:
                return ask()
            except Unreachable as error:
                now = time.monotonic()
                if self._silent_since is None:
                    self._silent_since = now
                    self._tell(f"{error} The download continues when the portal answers.")
                if now - self._silent_since >= self._wait_s:
                    raise
                time.sleep(min(PAUSE_S, self._wait_s))

    def heard(self) -> None:
        self._silent_since = None


class _Pull:
    def __init__(
        self,
        login: Login,
        place: str,
        checkpoint: Fetchable,
        folder: Path,
        wait_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._login = login
        self._place = place
        self._checkpoint = checkpoint
        self._folder = folder
        self._tell = tell
        self._patience = _Patience(wait_s, tell)
        self._told_at = time.monotonic()

    def run(self) -> Manifest:
        make_private(self._folder)
        manifest = self._manifest()
        for name, expected in manifest.files.items():
            path, had = self._folder / name, (self._folder / name).is_file()
            fetch = partial(self._fetch, name, expected.size_bytes)
            self._patience.call(fetch)
            is_right = verify(path, expected.sha256)
            if had and not is_right:
                # A crash of this host may have damaged what had arrived before.
                path.unlink()
                self._patience.call(fetch)
                is_right = verify(path, expected.sha256)
            if not is_right:
                path.unlink()
                raise Damaged(f"the SHA-256 of {name} differs from the recorded one")
        return manifest

    def _manifest(self) -> Manifest:
        with suppress(Damaged):
            return read_manifest(self._folder, self._checkpoint.sha256)
        data = self._patience.call(lambda: b"".join(self._blocks(MANIFEST, 0, LARGEST_MANIFEST_BYTES)))
        if hashlib.sha256(data).hexdigest() != self._checkpoint.sha256:
            raise Damaged("the SHA-256 of its manifest differs from the recorded one")
        write_atomically(self._folder / MANIFEST, lambda file: file.write(data))
        return read_manifest(self._folder, self._checkpoint.sha256)

    def _fetch(self, name: str, size_bytes: int) -> None:
        """Append what is missing of a file."""
        path = self._folder / name
        if path.exists() and path.stat().st_size > size_bytes:
            path.unlink()
        with open_private(path, "ab") as file:
            offset = os.fstat(file.fileno()).st_size
            if offset == size_bytes:
                return
            for block in self._blocks(name, offset, size_bytes - offset):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())

    def _blocks(self, name: str, offset: int, most_bytes: int) -> Iterator[bytes]:
        for block in stream(self._login, f"{self._place}{name}/?{urlencode({'offset': offset})}"):
            self._patience.heard()
            most_bytes -= len(block)
            if most_bytes < 0:
                raise Damaged(f"the portal sent more bytes of {name} than the manifest lists")
            yield block
            if time.monotonic() - self._told_at >= TOLD_EVERY_S:
                self._told_at = time.monotonic()
                arrived = sum(path.stat().st_size for path in self._folder.iterdir())
                self._tell(f"{arrived >> 20} of {self._checkpoint.size_bytes >> 20} MiB have arrived")
