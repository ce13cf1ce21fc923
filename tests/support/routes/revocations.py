"""Every way to lose a right while a socket is open, and how long it stays open then; for `tests.chaos.routes`."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.support.routes.scene import Scene, Tally, say

LONGEST_WAIT_S = 60.0
EXPIRES_AFTER = timedelta(seconds=0.7)


@dataclass(frozen=True)
class Person:
    """A new operator who watches, by a session or by a personal token."""

    name: str
    session: str
    member: Any
    token: Any = None


# Takes a right away; returns when the right was gone (monotonic) if that is later than the call.
Change = Callable[[Scene, Person], float | None]


def log_out(scene: Scene, person: Person) -> None:
    scene.post(person.name, "/logout/", person.session)


def change_password(scene: Scene, person: Person) -> None:
    # Hashing is slow by design and not part of closing, so the test stores any other text.
    scene.users[person.name].password = "!changed"
    scene.users[person.name].save()


def deactivate(scene: Scene, person: Person) -> None:
    scene.users[person.name].is_active = False
    scene.users[person.name].save()


def delete_session(scene: Scene, person: Person) -> None:
    from django.contrib.sessions.models import Session

    Session.objects.filter(session_key=person.session).delete()


def delete_account(scene: Scene, person: Person) -> None:
    scene.users[person.name].delete()


def remove_member(scene: Scene, person: Person) -> None:
    scene.post("owner", f"/projects/lab/members/{person.member.pk}/remove/")


def lower_role(scene: Scene, person: Person) -> None:
    scene.post("owner", f"/projects/lab/members/{person.member.pk}/role/", role="viewer")


def revoke_token(scene: Scene, person: Person) -> None:
    scene.post("owner", f"/projects/lab/tokens/{person.token.pk}/revoke/")


def expire_token(scene: Scene, person: Person) -> float:
    from django.utils import timezone

    from runs.models import AccessToken

    moment = timezone.now() + EXPIRES_AFTER
    AccessToken.objects.filter(pk=person.token.pk).update(expires_at=moment)
    return time.monotonic() + (moment - timezone.now()).total_seconds()


# The change, how the socket is authenticated (session, or a token's scope), and its close code.
REVOCATIONS: list[tuple[Change, str, int]] = [
    (log_out, "session", 4401),
    (change_password, "session", 4401),
    (deactivate, "session", 4401),
    (delete_session, "session", 4401),
    (delete_account, "session", 4401),
    (remove_member, "session", 4403),
    (lower_role, "session", 4409),
    (revoke_token, "command", 4401),
    (expire_token, "view", 4401),
    (remove_member, "command", 4403),
    (lower_role, "command", 4409),
    (revoke_token, "share", 4401),
    (expire_token, "share", 4401),
    (remove_member, "share", 4403),
]


def time_revocations(scene: Scene, tally: Tally, label: str) -> float:
    """Take each right away and return how long the slowest socket stayed open after that, in seconds."""
    slowest = 0.0
    for change, by, code in REVOCATIONS:
        person, socket = _watching(scene, by)
        closed: list[tuple[float, int]] = []
        listener = threading.Thread(target=_listen, args=(socket, closed))
        listener.start()
        began = time.monotonic()
        due = change(scene, person) or began
        listener.join(LONGEST_WAIT_S)
        what = f"{label}, {by}: {change.__name__}"
        tally.note(what, code, closed[0][1] if closed else "still open")
        open_s = closed[0][0] - due if closed else LONGEST_WAIT_S
        say(f"{what}: closed after {open_s:.3f} s")
        slowest = max(slowest, open_s)
        socket.close()
        listener.join()
    return slowest


def _watching(scene: Scene, by: str) -> tuple[Person, Any]:
    """Return a new operator and their open socket, greeted."""
    from django.contrib.auth.models import User

    from runs.access.tickets import issue_ticket

    name = secrets.token_hex(6)
    scene.users[name] = User.objects.create(username=name)
    member = scene.project.memberships.create(user=scene.users[name], role="operator")
    session = scene.session(name)
    token = None
    if by == "session":
        socket = scene.socket(ticket=issue_ticket(scene.users[name], scene.run, session))
    else:
        token, value = scene.token(by, name)
        socket = scene.socket(query=f"?token={value}") if by == "share" else scene.socket(bearer=value)
    assert json.loads(socket.recv(timeout=60))["kind"] == "hello"
    return Person(name, session, member, token), socket


def _listen(socket: Any, closed: list[tuple[float, int]]) -> None:
    from websockets.exceptions import ConnectionClosed

    try:
        while True:
            socket.recv()
    except ConnectionClosed as end:
        closed.append((time.monotonic(), end.rcvd.code if end.rcvd else 1006))
