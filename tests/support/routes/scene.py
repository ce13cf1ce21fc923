"""A project with a member of each role, behind a real portal, for `python -m tests.chaos.routes`."""

from __future__ import annotations

import http.client
import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.support.stack import Stack

MEMBERS = ("viewer", "operator", "owner")
PEOPLE = ("stranger", *MEMBERS)
CSRF_SECRET = "c" * 32


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Tally:
    """Counts requests, and records those with a wrong response."""

    cells: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, expected: object, found: object) -> None:
        self.cells += 1
        if str(expected) != str(found):
            self.wrong.append(f"{what}: expected {expected}, got {found}")
            say(f"WRONG {self.wrong[-1]}")


class Scene:
    """A project with a member of each role, and new objects for requests that change them.

    `links` and `bearers` are what the holders of a share token, of revoked and of other tokens present.
    """

    def __init__(self, stack: Stack) -> None:
        stack.migrate()
        stack.use()
        from django.contrib.auth.models import User

        from runs.models import Membership, Project, Recipe, Run

        self.stack = stack
        self.project = Project.objects.create(name="Lab", slug="lab")
        self.users = {name: User.objects.create(username=name) for name in PEOPLE}
        for name in MEMBERS:
            Membership.objects.create(project=self.project, user=self.users[name], role=name)
        other = Project.objects.create(name="Other", slug="other")
        Recipe.objects.create(spec="mnist", title="Digits", source_sha256="0" * 64)
        self.run = Run.objects.create(project=self.project, name="run", state="running", attempt=1)
        self.other_run = Run.objects.create(project=other, name="other")
        self.command = self.run.commands.create(kind="stop", author_name="x", sent_at=self.run.created_at)
        elsewhere = Project.objects.create(name="Elsewhere", slug="elsewhere")
        Membership.objects.create(project=elsewhere, user=self.users["owner"], role="owner")
        next_run = self.project.runs.create(name="next")
        self.links = {"share token": self.token("share")[1], "revoked token": self._revoked("share")}
        self.bearers = {
            "share token": self.links["share token"],
            "revoked token": self._revoked("command"),
            "token of another project": self.token("command", project=elsewhere, run=None)[1],
            "token of another run": self.token("command", run=next_run)[1],
        }
        self._sessions = {name: self.session(name) for name in PEOPLE}

    def token(self, scope: str, name: str = "owner", **fields: Any) -> tuple[Any, str]:
        """Return a new token of the user `name`, for the scene's run if `fields` name no other: row and value."""
        from runs.access.tokens import create_token

        chosen = {"project": self.project, "run": self.run} | fields
        return create_token(self.users[name], scope=scope, name="matrix", **chosen)

    def session(self, name: str) -> str:
        """Log a person in and return the session's key."""
        from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
        from django.contrib.sessions.backends.db import SessionStore

        user, store = self.users[name], SessionStore()
        store[SESSION_KEY] = str(user.pk)
        store[BACKEND_SESSION_KEY] = "runs.access.logins.PasswordBackend"
        store[HASH_SESSION_KEY] = user.get_session_auth_hash()
        store.create()
        return str(store.session_key)

    def fill(self, text: str, who: str) -> str:
        """Fill in the placeholders of `text`, and create the objects that a request may use up."""
        made: dict[str, Callable[[], object]] = {
            "run": lambda: self.run.pk,
            "other_run": lambda: self.other_run.pk,
            "command": lambda: self.command.pk,
            "link": lambda: self.links.get(who, "stm_" + "x" * 43),
            "new_run": lambda: self.project.runs.create(name="new").pk,
            "queued_run": lambda: self.project.runs.create(name="queued", state="queued").pk,
            "token": lambda: self.token("view")[0].pk,
            "member": self._member,
            "invite": lambda: self._invite()[0],
            "invite_key": lambda: self._invite()[1],
        }
        for name, make in made.items():
            if f"{{{name}}}" in text:
                text = text.replace(f"{{{name}}}", str(make()))
        return text

    def ask(self, who: str, path: str, content: str | None = None, media: str = "", csrf: bool = True) -> int:
        """Return the status of one request: POST if there is `content` of type `media`, otherwise GET."""
        headers = {"Accept": "text/html", "Content-Type": media}
        cookies = [f"steersman_csrf={CSRF_SECRET}"]
        if who in self.bearers:
            headers["Authorization"] = f"Bearer {self.bearers[who]}"
        if who in PEOPLE:
            # A change may end its session, so it gets a new one.
            cookies.append(f"steersman_session={self._sessions[who] if content is None else self.session(who)}")
        if csrf:
            headers["X-CSRFToken"] = CSRF_SECRET
        method = "GET" if content is None else "POST"
        return self._status(method, path, content, headers | {"Cookie": "; ".join(cookies)})

    def post(self, name: str, path: str, session: str = "", **form: str) -> int:
        """Send a form as a person, in the given session or a new one."""
        headers = {
            "Cookie": f"steersman_session={session or self.session(name)}; steersman_csrf={CSRF_SECRET}",
            "X-CSRFToken": CSRF_SECRET,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self._status("POST", path, urlencode(form), headers)

    def knock(self, who: str, path: str, by: str) -> str:
        """Return `hello`, or the close code of a handshake by nothing, ticket, address or header."""
        from websockets.exceptions import ConnectionClosed

        path = self.fill(path, who)
        options = {
            "ticket": lambda: {"ticket": self._ticket(path, who)},
            "address": lambda: {"query": f"?token={self._key(who, 'view')}"},
            "header": lambda: {"bearer": self._key(who, "command")},
        }
        with self.socket(path, **(options[by]() if by in options else {})) as socket:
            try:
                return str(json.loads(socket.recv(timeout=60))["kind"])
            except ConnectionClosed as closed:
                return str(closed.rcvd.code if closed.rcvd else 1006)

    def socket(self, path: str = "", ticket: str = "", query: str = "", bearer: str = "") -> Any:
        """Open a socket, for the scene's run if no path is given."""
        from websockets.sync.client import connect

        return connect(
            f"ws://127.0.0.1:{self.stack.port}{path or f'/ws/runs/{self.run.pk}/'}{query}",
            subprotocols=["steersman.v1", *([f"ticket.{ticket}"] if ticket else [])],  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {bearer}"} if bearer else {},
            compression=None,
        )

    def _status(self, method: str, path: str, content: str | None, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=60)
        try:
            connection.request(method, path, content, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def _key(self, who: str, scope: str) -> str:
        """Return the token of a visitor: people who may create one use a personal token."""
        if who in self.links and scope == "view":
            return self.links[who]
        if who in self.bearers:
            return self.bearers[who]
        return self.token(scope, who)[1] if who in ("operator", "owner") else "stm_invented"

    def _ticket(self, path: str, who: str) -> str:
        from runs.access.tickets import issue_ticket
        from runs.access.tokens import digest
        from runs.models import AccessToken, Run

        run = Run.objects.get(pk=int(path.split("/")[3]))
        if who in PEOPLE:
            return issue_ticket(self.users[who], run, self.session(who))
        if who in self.links:
            token = AccessToken.objects.get(digest=digest(self.links[who]))
            return issue_ticket(token.created_by, run, token=token)
        return "invented"

    def _revoked(self, scope: str) -> str:
        from runs.access.tokens import revoke

        row, value = self.token(scope)
        revoke(row)
        return value

    def _member(self) -> int:
        from django.contrib.auth.models import User

        user = User.objects.create(username=secrets.token_hex(6))
        return int(self.project.memberships.create(user=user, role="viewer").pk)

    def _invite(self) -> tuple[int, str]:
        from runs.access import membership

        key = membership.invite(self.project, "viewer", self.users["owner"])
        return self.project.invites.latest("pk").pk, key
