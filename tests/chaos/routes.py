"""Request every route as every kind of visitor, with real processes; measure how long a socket outlives a revocation.

    .venv/bin/python -m tests.chaos.routes

The program reads the routes from the URL resolver and the WebSocket patterns, and reports a route without a row below
or a row without a route. For a new route, add a row: the request, and the responses for WHO in their order. A response
is an HTTP status; for sockets it is `hello` or the close code. A token that is limited to another project or run gets
the response of a stranger, although its owner may do more: that needs no row. The last line on stdout is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.support.routes.revocations import time_revocations
from tests.support.routes.scene import Scene, Tally, say
from tests.support.stack import Stack

WHO = ("anonymous", "stranger", "viewer", "operator", "owner", "share token", "revoked token")
# Tokens of the owner for another project, and for another run.
NARROWED = ("token of another project", "token of another run")
# The admin is for staff only, and WHO contains no staff: each route of the admin redirects to its login.
ADMIN_PREFIX = "admin/"
ADMIN = "302 302 302 302 302 302 302"
LOGIN_PAGE = "302 404 200 200 200 302 302"
OPERATORS_PAGE = "302 404 403 200 200 302 302"
OPERATORS_POST = "302 404 403 302 302 302 302"
OPERATORS_ABSENT = "302 404 403 404 404 302 302"
OWNERS_POST = "302 404 403 403 302 302 302"
OWNERS_PAGE = "302 404 403 403 200 302 302"
OWNERS_FORM = "302 404 403 403 422 302 302"
OWNERS_ABSENT = "302 404 403 403 404 302 302"
NOBODYS = "404 404 404 404 404 404 404"
FOR_ALL = "200 200 200 200 200 200 200"
FOR_LINKS = "404 404 404 404 404 200 404"
# The portal recognises a share token, and answers that it only opens the page of its run.
API_OF_RUN = "401 404 200 200 200 403 401"
# The requests of that page.
PAGE_OF_RUN = "401 404 200 200 200 200 401"
PAGE_OF_OTHER_RUN = "401 404 404 404 404 404 401"


@dataclass(frozen=True)
class Row:
    """A request for a route, and the responses by WHO. `path` and `form` may contain names from `Scene.fill`."""

    route: str
    path: str
    answers: str
    form: dict[str, str] | None = None
    body: str | None = None

    @property
    def method(self) -> str:
        return "GET" if self.form is None and self.body is None else "POST"


EMPTY = {"name": ""}
LAUNCH = {"key": "job 7", "start": "0", "host": "gpu7", "boot_id": "b", "pid": 1, "command_line": ["train.py"]}
VIEWS, VIEW_GONE = "/api/projects/lab/views/", "401 404 403 404 404 403 401"
AGENT = json.dumps({"name": "gpu7", "session": "0" * 32, "host": "gpu7", "slots": 1, "commands": []})
COMMAND = json.dumps({"command": "stop"})
SEVERAL = json.dumps({"runs": [999_999], "action": "stop"})
ROWS = [
    Row("", "/", "302 200 200 200 200 302 302"),
    Row("login/", "/login/", "200 302 302 302 302 200 200"),
    Row("logout/", "/logout/", ADMIN, form={}),
    Row("password/", "/password/", "302 200 200 200 200 302 302"),
    Row("password/", "/password/", "302 200 200 200 200 302 302", form={"old_password": "wrong"}),
    Row("password/done/", "/password/done/", "302 200 200 200 200 302 302"),
    Row("sessions/", "/sessions/", "302 200 200 200 200 302 302"),
    Row("sessions/<int:pk>/end/", "/sessions/999999/end/", "302 404 404 404 404 302 302", form={}),
    # Without STEERSMAN_SECOND_FACTOR the portal has none of these pages.
    *(
        Row(f"second-factor/{page}", f"/second-factor/{page}", NOBODYS)
        for page in (
            "",
            "code/",
            "confirm/",
            "confirm/code/",
            "confirm/again/",
            "app/",
            "app/remove/",
            "passkey/",
            "passkey/log-in/",
            "confirm/passkey/",
            "recovery/",
            "recovery/new/",
            "recovery/codes.txt",
        )
    ),
    Row("second-factor/passkey/<int:pk>/remove/", "/second-factor/passkey/1/remove/", NOBODYS),
    # Without STEERSMAN_OIDC_… it does not have these pages either.
    Row("sso/", "/sso/", "302 404 404 404 404 302 302"),
    Row("sso/connect/", "/sso/connect/", "302 404 404 404 404 302 302", form={}),
    Row("sso/<int:pk>/disconnect/", "/sso/1/disconnect/", "302 404 404 404 404 302 302", form={}),
    Row("sso/<str:provider_id>/login/", "/sso/oidc/login/", NOBODYS),
    Row("sso/<str:provider_id>/callback/", "/sso/oidc/callback/", NOBODYS),
    Row("sso/cancelled/", "/sso/cancelled/", ADMIN),
    Row("second-factor/log-in/", "/second-factor/log-in/", ADMIN),
    Row("texts.js", "/texts.js", FOR_ALL),
    Row("texts/<slug:language>/<slug:digest>.js", "/texts/en/0.js", FOR_ALL),
    Row("manifest.webmanifest", "/manifest.webmanifest", FOR_ALL),
    # pip requests these without a login, because packages contain no secret.
    Row("client/simple/", "/client/simple/", FOR_ALL),
    Row("client/simple/<str:project>/", "/client/simple/no-such-package/", NOBODYS),
    Row("client/files/<str:name>", "/client/files/settings.py", NOBODYS),
    Row("metrics", "/metrics", "401 401 401 401 401 401 401"),
    Row("i18n/setlang/", "/i18n/setlang/", ADMIN, form={"language": "zh-hans"}),
    # Visitors who may not start runs get the same explanation for GET and POST.
    Row("runs/new/", "/runs/new/", "302 200 200 200 200 302 302"),
    Row("runs/new/", "/runs/new/", "302 200 200 422 422 302 302", form={"recipe": "mnist"}),
    Row("runs/new/agent/", "/runs/new/agent/", "302 200 200 200 200 302 302"),
    Row("runs/new/agent/", "/runs/new/agent/?agent=999999", "302 404 404 404 404 302 302", form={"restarts": "1"}),
    Row("runs/new/client/", "/runs/new/client/", "302 200 200 200 200 302 302"),
    # Only for projects in which the visitor may start runs.
    Row("runs/new/client/", "/runs/new/client/", "302 404 404 200 200 302 302", form={"project": "lab"}),
    # Shows those of the runs that the visitor may see, and of the others that they are not there.
    Row("runs/compare/", "/runs/compare/?run={run}&run={other_run}", "302 200 200 200 200 302 302"),
    Row("runs/export/<str:what>.csv", "/runs/export/epochs.csv?run={run}", LOGIN_PAGE),
    Row("runs/compare/curves/", "/runs/compare/curves/?run={run}&name=loss", "302 200 200 200 200 302 302"),
    Row("runs/compare/importance/", "/runs/compare/importance/?run={run}&target=x", "302 200 200 200 200 302 302"),
    Row("runs/<int:pk>/", "/runs/{run}/", LOGIN_PAGE),
    # Who may download is told that there is no such checkpoint.
    Row("runs/<int:pk>/checkpoints/<int:checkpoint_id>/", "/runs/{run}/checkpoints/999999/", OPERATORS_ABSENT),
    Row(
        "runs/<int:pk>/checkpoints/<int:checkpoint_id>/branch/",
        "/runs/{run}/checkpoints/999999/branch/",
        OPERATORS_ABSENT,
    ),
    Row(
        "runs/<int:pk>/checkpoints/<int:checkpoint_id>/branch/",
        "/runs/{run}/checkpoints/999999/branch/",
        OPERATORS_ABSENT,
        form={"start": "no"},
    ),
    Row("runs/<int:pk>/again/", "/runs/{run}/again/", OPERATORS_PAGE),
    Row("runs/<int:pk>/again/", "/runs/{run}/again/", "302 404 403 422 422 302 302", form={"name": "x" * 500}),
    Row("runs/<int:pk>/console.txt", "/runs/{run}/console.txt", LOGIN_PAGE),
    Row("runs/<int:pk>/console/", "/runs/{run}/console/?q=step", LOGIN_PAGE),
    Row("runs/<int:pk>/attempts/<int:number>/patch/", "/runs/{run}/attempts/999/patch/", OPERATORS_ABSENT),
    Row("runs/<int:pk>/queue/", "/runs/{new_run}/queue/", OPERATORS_POST, form={}),
    Row("runs/<int:pk>/in-queue/", "/runs/{queued_run}/in-queue/", OPERATORS_POST, form={"command": "withdraw"}),
    Row("runs/<int:pk>/share/", "/runs/{run}/share/", OPERATORS_PAGE),
    Row("runs/<int:pk>/share/", "/runs/{run}/share/", OPERATORS_PAGE, form={"days": "1"}),
    Row("audit/", "/audit/", "302 403 403 403 403 302 302"),
    Row("projects/<slug:slug>/audit/", "/projects/lab/audit/", OWNERS_PAGE),
    Row("projects/", "/projects/", "302 200 200 200 200 302 302"),
    Row("projects/", "/projects/", "302 403 403 403 403 302 302", form={"name": "Mine"}),
    Row("projects/<slug:slug>/", "/projects/lab/", LOGIN_PAGE),
    Row("projects/<slug:slug>/edit/", "/projects/lab/edit/", OWNERS_PAGE),
    Row("projects/<slug:slug>/edit/", "/projects/lab/edit/", OWNERS_FORM, form={"goal_direction": "x"}),
    Row("projects/<slug:slug>/views/", "/projects/lab/views/", OPERATORS_POST, form=EMPTY),
    Row("projects/<slug:slug>/views/<int:pk>/delete/", "/projects/lab/views/9/delete/", OPERATORS_ABSENT, form={}),
    Row("projects/<slug:slug>/members/", "/projects/lab/members/", LOGIN_PAGE),
    Row("projects/<slug:slug>/keeping/", "/projects/lab/keeping/", OWNERS_PAGE),
    Row("projects/<slug:slug>/keeping/", "/projects/lab/keeping/", OWNERS_FORM, form={"checkpoint_epochs": "0"}),
    Row(
        "projects/<slug:slug>/members/", "/projects/lab/members/", "302 404 403 403 200 302 302", form={"role": "owner"}
    ),
    Row(
        "projects/<slug:slug>/members/<int:pk>/role/",
        "/projects/lab/members/{member}/role/",
        OWNERS_POST,
        form={"role": "owner"},
    ),
    Row(
        "projects/<slug:slug>/members/<int:pk>/remove/", "/projects/lab/members/{member}/remove/", OWNERS_POST, form={}
    ),
    Row(
        "projects/<slug:slug>/invites/<int:pk>/revoke/", "/projects/lab/invites/{invite}/revoke/", OWNERS_POST, form={}
    ),
    Row("invite/<str:key>/", "/invite/{invite_key}/", FOR_ALL),
    Row("invite/<str:key>/", "/invite/invented/", NOBODYS),
    Row("projects/<slug:slug>/rules/", "/projects/lab/rules/", LOGIN_PAGE),
    Row("projects/<slug:slug>/rules/", "/projects/lab/rules/", OPERATORS_POST, form={"do": "none"}),
    Row("projects/<slug:slug>/rules/edit/", "/projects/lab/rules/edit/?detector=spike", OPERATORS_PAGE),
    Row("runs/<int:pk>/rules/", "/runs/{run}/rules/", LOGIN_PAGE),
    Row("runs/<int:pk>/rules/", "/runs/{run}/rules/", OPERATORS_POST, form={"do": "none"}),
    Row("runs/<int:pk>/rules/edit/", "/runs/{run}/rules/edit/?detector=spike", OPERATORS_PAGE),
    Row("projects/<slug:slug>/tokens/", "/projects/lab/tokens/", LOGIN_PAGE),
    Row(
        "projects/<slug:slug>/tokens/",
        "/projects/lab/tokens/",
        OPERATORS_PAGE,
        form={"name": "ci", "scope": "command", "days": "1"},
    ),
    Row("projects/<slug:slug>/tokens/<int:pk>/revoke/", "/projects/lab/tokens/{token}/revoke/", OWNERS_POST, form={}),
    Row("share/<str:token>/", "/share/{link}/", FOR_LINKS),
    # Anybody with a link from a message may open it; other roles than owners get their refusal before the portal looks
    # the link up.
    Row("alerts/act/<str:token>/", "/alerts/act/invented/", NOBODYS),
    Row("alerts/act/<str:token>/", "/alerts/act/invented/", NOBODYS, form={"nonce": "x"}),
    Row("projects/<slug:slug>/alerts/", "/projects/lab/alerts/", LOGIN_PAGE),
    Row("projects/<slug:slug>/alerts/new/<slug:kind>/", "/projects/lab/alerts/new/mail/", OWNERS_PAGE),
    Row("projects/<slug:slug>/alerts/new/<slug:kind>/", "/projects/lab/alerts/new/mail/", OWNERS_FORM, form=EMPTY),
    Row("projects/<slug:slug>/alerts/<int:pk>/", "/projects/lab/alerts/999999/", OWNERS_ABSENT),
    Row("projects/<slug:slug>/alerts/<int:pk>/", "/projects/lab/alerts/999999/", OWNERS_ABSENT, form=EMPTY),
    *(
        Row(
            f"projects/<slug:slug>/alerts/<int:pk>/{end}/",
            f"/projects/lab/alerts/999999/{end}/",
            OWNERS_ABSENT,
            form={},
        )
        for end in ("switch", "delete", "test")
    ),
    Row("projects/<slug:slug>/alerts/mail/", "/projects/lab/alerts/mail/", OWNERS_PAGE),
    Row("projects/<slug:slug>/alerts/mail/", "/projects/lab/alerts/mail/", OWNERS_FORM, form=EMPTY),
    Row("projects/<slug:slug>/alerts/mail/test/", "/projects/lab/alerts/mail/test/", OWNERS_ABSENT, form={}),
    Row("projects/<slug:slug>/alerts/mail/delete/", "/projects/lab/alerts/mail/delete/", OWNERS_ABSENT, form={}),
    Row("api/", "/api/", ADMIN),
    Row("api/^.*$", "/api/nothing/", NOBODYS),
    Row("api/openapi.json", "/api/openapi.json", FOR_ALL),
    Row("api/docs/", "/api/docs/", FOR_ALL),
    Row("api/runs/", "/api/runs/", "401 200 200 200 200 403 401"),
    # Only for tokens of training hosts; everybody else gets an error that says so.
    Row("api/runs/", "/api/runs/", "401 403 403 403 403 403 401", body=json.dumps(LAUNCH)),
    Row("api/runs/<int:run_id>/copies/", "/api/runs/{run}/copies/", "401 403 403 403 403 403 401"),
    Row(
        "api/runs/<int:run_id>/copies/<sha256>/", f"/api/runs/{{run}}/copies/{'0' * 64}/", "401 403 403 403 403 403 401"
    ),
    Row(
        "api/runs/<int:run_id>/copies/<sha256>/<name>/",
        f"/api/runs/{{run}}/copies/{'0' * 64}/manifest.json/?offset=0",
        "401 403 403 403 403 403 401",
    ),
    Row("api/runs/<int:run_id>/", "/api/runs/{run}/", API_OF_RUN),
    Row("api/runs/<int:run_id>/epochs/", "/api/runs/{run}/epochs/", API_OF_RUN),
    Row("api/runs/<int:run_id>/series/", "/api/runs/{run}/series/", API_OF_RUN),
    Row("api/runs/<int:run_id>/points/", "/api/runs/{run}/points/?name=loss&from=0&to=9", PAGE_OF_RUN),
    Row("api/runs/<int:run_id>/points/", "/api/runs/{run}/points/?name=loss&raw=true", PAGE_OF_RUN),
    Row("api/runs/<int:run_id>/points/", "/api/runs/{other_run}/points/?name=loss&raw=true", PAGE_OF_OTHER_RUN),
    Row("api/runs/<int:run_id>/history/", "/api/runs/{run}/history/", PAGE_OF_RUN),
    Row("api/runs/<int:run_id>/history/", "/api/runs/{other_run}/history/", PAGE_OF_OTHER_RUN),
    Row("api/runs/<int:run_id>/details/", "/api/runs/{run}/details/", PAGE_OF_RUN),
    Row("api/runs/<int:run_id>/details/", "/api/runs/{other_run}/details/", PAGE_OF_OTHER_RUN),
    Row("api/runs/<int:run_id>/place/", "/api/runs/{run}/place/", PAGE_OF_RUN),
    Row("api/runs/<int:run_id>/place/", "/api/runs/{other_run}/place/", PAGE_OF_OTHER_RUN),
    Row("api/runs/<int:run_id>/alerts/", "/api/runs/{run}/alerts/", API_OF_RUN),
    Row(
        "api/runs/<int:run_id>/alerts/<int:alert_id>/acknowledge/",
        "/api/runs/{run}/alerts/999999/acknowledge/",
        "401 404 403 404 404 403 401",
        body="{}",
    ),
    Row(
        "api/runs/<int:run_id>/alerts/<int:alert_id>/snooze/",
        "/api/runs/{run}/alerts/999999/snooze/",
        "401 404 403 404 404 403 401",
        body='{"hours": 1}',
    ),
    Row(
        "api/runs/<int:run_id>/checkpoints/<int:checkpoint_id>/keep/",
        "/api/runs/{run}/checkpoints/999999/keep/",
        "401 404 403 404 404 403 401",
        body='{"keep": true}',
    ),
    Row("api/runs/<int:run_id>/tags/", "/api/runs/{run}/tags/", "401 404 403 200 200 403 401", body='{"add": ["new"]}'),
    Row(
        "api/runs/<int:run_id>/about/",
        "/api/runs/{run}/about/",
        "401 404 403 200 200 403 401",
        body='{"description": "new"}',
    ),
    # Visitors without the right to change runs get a refusal for each run.
    Row("api/runs/several/", "/api/runs/several/", "401 200 200 200 200 403 401", body=SEVERAL),
    Row(
        "api/runs/<int:run_id>/pins/",
        "/api/runs/{run}/pins/",
        "401 404 403 200 200 403 401",
        body='{"chart": "train/loss", "pinned": true}',
    ),
    Row("api/runs/<int:run_id>/branches/", "/api/runs/{run}/branches/", API_OF_RUN),
    # The run has no checkpoint, so the answer is 409.
    Row("api/runs/<int:run_id>/branches/", "/api/runs/{run}/branches/", "401 404 403 409 409 403 401", body="{}"),
    Row("api/runs/<int:run_id>/again/", "/api/runs/{run}/again/", API_OF_RUN),
    # The run at which a branch would be opened does not exist.
    Row(
        "api/runs/<int:run_id>/again/",
        "/api/runs/{run}/again/",
        "401 404 403 404 404 403 401",
        body='{"source": 999999}',
    ),
    Row("api/queue/", "/api/queue/", "401 200 200 200 200 403 401"),
    Row("api/agents/", "/api/agents/", "401 200 200 200 200 403 401"),
    # Only tokens with the scope train report agents.
    Row("api/agents/report/", "/api/agents/report/", "401 403 403 403 403 403 401", body=AGENT),
    Row(
        "api/agents/<int:agent_id>/runs/",
        "/api/agents/999999/runs/",
        "401 404 404 404 404 403 401",
        body='{"command": "resnet"}',
    ),
    Row("api/runs/<int:run_id>/queue/", "/api/runs/{run}/queue/", "401 404 403 409 409 403 401", body="{}"),
    Row("api/runs/<int:run_id>/commands/", "/api/runs/{run}/commands/", API_OF_RUN),
    Row("api/runs/<int:run_id>/commands/", "/api/runs/{run}/commands/", "401 404 403 201 201 403 401", body=COMMAND),
    Row("api/runs/<int:run_id>/commands/html/", "/api/runs/{run}/commands/html/?command={command}", PAGE_OF_RUN),
    Row("api/runs/<int:run_id>/commands/<uuidstr:command_id>/", "/api/runs/{run}/commands/{command}/", API_OF_RUN),
    Row("api/runs/<int:run_id>/knobs/", "/api/runs/{run}/knobs/", API_OF_RUN),
    Row("api/runs/<int:run_id>/checkpoints/", "/api/runs/{run}/checkpoints/", API_OF_RUN),
    Row("api/runs/<int:run_id>/attempts/", "/api/runs/{run}/attempts/", API_OF_RUN),
    Row("api/runs/<int:run_id>/patch/", "/api/runs/{run}/patch/", "401 404 403 404 404 403 401"),
    Row("api/projects/<slug:slug>/views/", VIEWS, API_OF_RUN),
    Row("api/projects/<slug:slug>/views/", VIEWS, "401 404 403 200 200 403 401", body='{"name": "new"}'),
    Row("api/projects/<slug:slug>/views/<int:view_id>/delete/", f"{VIEWS}9/delete/", VIEW_GONE, body="{}"),
    Row("api/tickets/", "/api/tickets/", PAGE_OF_RUN, body='{"run": {run}}'),
    Row("api/tickets/", "/api/tickets/", PAGE_OF_OTHER_RUN, body='{"run": {other_run}}'),
    # The last row, because it ends the sessions that the rows above use.
    Row("sessions/end-others/", "/sessions/end-others/", ADMIN, form={}),
]


@dataclass(frozen=True)
class SocketRow:
    """A handshake. `by` is how the visitor authenticates: by ticket, by address or by header."""

    route: str
    path: str
    by: str
    answers: str


SOCKETS = [
    SocketRow("ws/runs/<int:run_id>/", "/ws/runs/{run}/", "nothing", "4401 4401 4401 4401 4401 4401 4401"),
    # This test creates tickets directly, as if the visitor had lost the right during the ticket's life.
    SocketRow("ws/runs/<int:run_id>/", "/ws/runs/{run}/", "ticket", "4401 4403 hello hello hello hello 4401"),
    SocketRow("ws/runs/<int:run_id>/", "/ws/runs/{run}/", "address", "4401 4401 4401 4401 4401 hello 4401"),
    SocketRow("ws/runs/<int:run_id>/", "/ws/runs/{run}/", "header", "4401 4401 4401 hello hello 4401 4401"),
    SocketRow("ws/runs/<int:run_id>/", "/ws/runs/{other_run}/", "ticket", "4401 4403 4403 4403 4403 4403 4401"),
    SocketRow("", "/ws/elsewhere/", "nothing", "4404 4404 4404 4404 4404 4404 4404"),
]


def http_routes() -> Iterator[tuple[str, str]]:
    """Yield every HTTP route and a path that leads to it; only for the admin is the path complete."""
    from django.urls import URLResolver, get_resolver

    def walk(patterns: Any, prefix: str) -> Iterator[str]:
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, route)
            else:
                yield route

    for route in dict.fromkeys(walk(get_resolver().url_patterns, "")):
        yield route, _admin_path(route) if route.startswith(ADMIN_PREFIX) else ""


def _admin_path(route: str) -> str:
    """Fill in a route of the admin: each placeholder becomes 1."""
    path = route.replace("^(?P<app_label>auth|runs)/$", "runs/").replace("(?P<url>.*)$", "nothing")
    return "/" + re.sub(r"<[^>]+>", "1", path)


def socket_routes() -> list[str]:
    from runs.live.routing import websocket_urlpatterns

    return [str(pattern.pattern) for pattern in websocket_urlpatterns]


def uncovered() -> list[str]:
    """Return what is wrong with the table: routes without a row, rows without a route."""
    http, sockets = {route for route, _ in http_routes()}, set(socket_routes())
    rows, socket_rows = {row.route for row in ROWS}, {row.route for row in SOCKETS}
    without_row = {route for route in http if not route.startswith(ADMIN_PREFIX)} - rows
    found = [f"route {route!r} has no row" for route in sorted(without_row)]
    found += [f"socket {route!r} has no row" for route in sorted(sockets - socket_rows)]
    found += [f"row {route!r} has no route" for route in sorted(rows - http)]
    found += [f"row {route!r} has no socket" for route in sorted(socket_rows - sockets)]
    return found


def ask_all(scene: Scene, tally: Tally, admin: bool) -> None:
    """Request the rows of the table; with `admin`, only the routes of the admin."""
    for row in ROWS:
        say(f"{row.method} /{row.route}")
        for who, expected in zip(WHO, row.answers.split(), strict=True):
            tally.note(f"{row.method} {row.path} as {who}", expected, _ask(scene, row, who))
        if row.route.startswith("api/"):
            strangers = row.answers.split()[WHO.index("stranger")]
            for who in NARROWED if "{run}" in row.path + (row.body or "") else NARROWED[:1]:
                tally.note(f"{row.method} {row.path} as {who}", strangers, _ask(scene, row, who))
        if row.method == "POST":
            tally.note(f"POST {row.path} as owner without the CSRF token", 403, _ask(scene, row, "owner", csrf=False))
    for route, path in http_routes() if admin else ():
        if route.startswith(ADMIN_PREFIX):
            # Its login page opens for everybody, and explains to logged-in visitors that they are not staff.
            answers = FOR_ALL if route == "admin/login/" else ADMIN
            for who, expected in zip(WHO, answers.split(), strict=True):
                tally.note(f"GET {path} as {who}", expected, scene.ask(who, path))
    say("sockets")
    for knock in SOCKETS:
        for who, expected in zip(WHO, knock.answers.split(), strict=True):
            found = scene.knock(who, knock.path, knock.by)
            tally.note(f"{knock.path} by {knock.by} as {who}", expected, found)
    for who in NARROWED:
        found = scene.knock(who, "/ws/runs/{run}/", "header")
        tally.note(f"/ws/runs/{{run}}/ by header as {who}", 4403, found)


def _ask(scene: Scene, row: Row, who: str, csrf: bool = True) -> int:
    path = scene.fill(row.path, who)
    if row.form is not None:
        return scene.ask(who, path, urlencode(row.form), "application/x-www-form-urlencoded", csrf)
    body = scene.fill(row.body, who) if row.body is not None else None
    return scene.ask(who, path, body, "application/json", csrf)


def main() -> int:
    """Check everything; return 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="without the admin, and without a dead channel layer")
    short = parser.parse_args().short
    tally = Tally()
    with Stack() as stack:
        scene = Scene(stack)
        for fault in uncovered():
            tally.note(fault, "a match", "none")
        stack.start_redis()
        stack.start_web()
        ask_all(scene, tally, admin=not short)
        slowest = time_revocations(scene, tally, "with the layer")
        if not short:
            stack.redis.stop()
            slowest = max(slowest, time_revocations(scene, tally, "without the layer"))
    routes = len(list(http_routes())) + len(socket_routes())
    result = {"routes": routes, "cells": tally.cells, "wrong": len(tally.wrong), "revoked_open_s": round(slowest, 3)}
    print(json.dumps(result), flush=True)
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
