"""Opens an attempt of a launch in the portal. Asking twice gives the same attempt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from steersman.agent.folders import boot_id, host_name
from steersman.agent.machine.redactor import Redactor
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


def open_attempt(login: Login, launch: Launch, number: int, data: Path, application: Path) -> Place:
    """Return the place of attempt `number` of a launch, counted here. Raises `steersman.portal.requests.PortalError`.

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
    )
    answer = ask(login, RUNS, opening)
    try:
        return decode(Place, answer)
    except Malformed as error:
        raise Refused(not_a_portal(login.address)) from error
