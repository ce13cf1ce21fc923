"""Opens an attempt of a launch in the portal. Asking twice gives the same attempt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.folders import boot_id, host_name
from steersman.agent.machine.redactor import Redactor
from steersman.agent.origin.fetching import Origin
from steersman.agent.remote.launches import Launch
from steersman.portal.logins import Login
from steersman.portal.requests import RUNS, Refused, ask, not_a_portal
from steersman.records.typed_json import Malformed, decode
from steersman.starting.messages import Place

LONGEST_NAME = 200
LONGEST_WORD = 4000
LONGEST_FOLDER = 1000
MOST_WORDS = 1000
NOT_IN_A_HOST_NAME = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """The checkpoint of another run at which a new run begins, as the portal told it."""

    run: int
    run_name: str
    sha256: str
    name: str
    step: int
    epoch: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """A request to a portal to open an attempt, identified by `start`, of the run identified by `key`."""

    key: str
    start: str
    host: str
    boot_id: str
    pid: int
    command_line: list[str]
    name: str
    ranks: int
    restarts: int
    project: str
    started: list[str]
    folder: str
    origin: _Origin | None


def open_attempt(
    login: Login, launch: Launch, number: int, data: Path, application: Path, origin: Origin | None = None
) -> Place:
    """Return the place of attempt `number` of a launch, counted here. Raises `steersman.portal.requests.PortalError`.

    `origin` is the checkpoint at which the launch begins, None if it starts from the beginning.

    Texts that identify this host, such as the names of the folders `data` and `application`, are not sent.
    """
    redactor = Redactor(data, application)
    opening = _Opening(
        key=launch.key,
        start=f"{launch.key}/{number}",
        host=NOT_IN_A_HOST_NAME.sub("-", host_name())[:255] or "host",
        boot_id=boot_id()[:64],
        pid=launch.parent,
        command_line=[redactor.text(word)[:LONGEST_WORD] for word in launch.script[:MOST_WORDS]],
        name=redactor.text(launch.name)[:LONGEST_NAME],
        ranks=launch.ranks,
        restarts=launch.restarts,
        project=launch.project,
        started=[redactor.text(word)[:LONGEST_WORD] for word in launch.started[:MOST_WORDS]],
        folder=redactor.text(launch.folder)[:LONGEST_FOLDER],
        origin=_as_told(origin),
    )
    answer = ask(login, RUNS, opening)
    try:
        return decode(Place, answer)
    except Malformed as error:
        raise Refused(not_a_portal(login.address)) from error


def _as_told(origin: Origin | None) -> _Origin | None:
    if origin is None:
        return None
    return _Origin(
        run=origin.run,
        run_name=origin.run_name,
        sha256=origin.sha256,
        name=origin.name,
        step=origin.step,
        epoch=origin.epoch,
        size_bytes=origin.size_bytes,
    )
