"""Tokens and share links: shown once, never more powerful than their creator, useless once revoked."""

from __future__ import annotations

import io
import json
import logging
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from monitor_site.logs import KeylessFormatter
from runs.access.guest_view import nameless_frames, names_somebody
from runs.access.roles import Caller
from runs.access.tokens import TokenRefused, create_token, digest, find_token, revoke
from runs.commands.record import record
from runs.models import AccessToken, Attempt, Membership, Project, Role, Run, RunState, TokenScope
from runs.protocol.commands import parse_command
from runs.recording import alerts, feed
from runs.recording.alerts import Finding
from tests.support.sockets import redeem_ticket

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        user = User.objects.create(username=role, first_name=role.title(), last_name="Person")
        Membership.objects.create(project=project, user=user, role=role)
    User.objects.create(username="stranger")
    return project


@pytest.fixture
def run(project: Project) -> Run:
    return Run.objects.create(project=project, name="first", state=RunState.RUNNING, attempt=1)


def user(name: str) -> User:
    return User.objects.get(username=name)


def session(name: str) -> Client:
    client = Client()
    client.force_login(user(name))
    return client


def set_role(name: str, role: str) -> None:
    Membership.objects.filter(user__username=name).update(role=role)


def made(
    project: Project, scope: str = TokenScope.VIEW, name: str = "operator", **fields: Any
) -> tuple[AccessToken, str]:
    return create_token(user(name), project, scope, name="script", **fields)


def test_it_keeps_only_a_hash(project: Project) -> None:
    row, value = made(project)
    assert re.fullmatch(r"stm_[\w-]{43}", value)
    row.refresh_from_db()
    assert (row.prefix, row.digest) == (value[:12], digest(value))
    assert value not in str(AccessToken.objects.values())


def test_it_finds_a_token_that_holds_and_no_other(project: Project, run: Run) -> None:
    row, value = made(project)
    assert find_token(value) == row
    assert find_token(value + "x") is None and find_token("") is None and find_token(row.digest) is None
    expired, old = made(project, expires_at=timezone.now() + timedelta(days=1))
    AccessToken.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    assert find_token(old) is None
    _, share = made(project, TokenScope.SHARE, run=run)
    assert find_token(share) is None and find_token(share, {TokenScope.SHARE}) is not None
    revoke(row)
    assert find_token(value) is None


def test_it_notes_the_last_use_once_a_minute(project: Project, django_assert_num_queries: Any) -> None:
    row, value = made(project)
    assert find_token(value) is not None
    row.refresh_from_db()
    first = row.last_used_at
    assert first is not None
    with django_assert_num_queries(2):
        find_token(value)
    AccessToken.objects.update(last_used_at=first - timedelta(seconds=61))
    find_token(value)
    row.refresh_from_db()
    assert row.last_used_at is not None and row.last_used_at >= first


def test_it_never_allows_more_than_its_maker_may_now(project: Project, run: Run) -> None:
    row, value = made(project, TokenScope.COMMAND, "owner")
    caller = Caller(row.created_by, row)
    viewer = caller.viewer(run)
    assert viewer is not None and (viewer.role, viewer.name) == ("operator", "Owner Person (script)")
    set_role("owner", Role.VIEWER)
    viewer = caller.viewer(run)
    assert viewer is not None and viewer.may == []
    Membership.objects.filter(user=row.created_by).delete()
    assert caller.viewer(run) is None and find_token(value) is None and not caller.runs().exists()


def test_it_dies_with_the_account_of_its_maker(project: Project) -> None:
    row, value = made(project)
    User.objects.filter(pk=row.created_by_id).update(is_active=False)
    assert find_token(value) is None


@pytest.mark.parametrize(
    ("name", "scope", "fields", "field"),
    [
        ("viewer", "view", {}, "user"),
        ("stranger", "view", {}, "user"),
        ("operator", "everything", {}, "scope"),
        ("operator", "share", {}, "run"),
        ("operator", "view", {"expires_at": timezone.now() - timedelta(days=1)}, "expires_at"),
    ],
)
def test_it_refuses_what_makes_no_sense(project: Project, name: str, scope: str, fields: Any, field: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        made(project, scope, name, **fields)
    assert refused.value.field == field


def test_it_shows_a_new_token_once_on_the_page(project: Project) -> None:
    client = session("operator")
    answer = client.post("/projects/lab/tokens/", {"name": "ci", "scope": "command", "days": "7"})
    (value,) = re.findall(r'value="(stm_[\w-]+)"', answer.content.decode())
    token = find_token(value)
    assert token is not None and (token.name, token.scope) == ("ci", "command")
    again = client.get("/projects/lab/tokens/")
    assert value not in again.content.decode() and token.prefix in again.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"name": ""}, "required"),
        ({"run": "999"}, "no such run"),
        ({"scope": "share"}, "valid choice"),
        ({"days": "-1"}, "valid choice"),
    ],
)
def test_it_says_on_the_page_what_cannot_be_used(project: Project, fields: dict[str, str], text: str) -> None:
    form = {"name": "ci", "scope": "view", "days": "7", **fields}
    answer = session("operator").post("/projects/lab/tokens/", form)
    assert answer.status_code == 422 and text in answer.content.decode()
    assert not AccessToken.objects.exists()


def test_it_lets_viewers_make_none(project: Project, run: Run) -> None:
    client = session("viewer")
    assert client.get("/projects/lab/tokens/").status_code == 200
    assert client.post("/projects/lab/tokens/", {"name": "ci", "scope": "view"}).status_code == 403
    assert client.get(f"/runs/{run.pk}/share/").status_code == 403
    assert session("stranger").get("/projects/lab/tokens/").status_code == 404
    assert not AccessToken.objects.exists()


def test_it_lets_owners_revoke_all_and_others_their_own(project: Project) -> None:
    of_owner, _ = made(project, name="owner")
    of_operator, _ = made(project)
    page = session("operator").get("/projects/lab/tokens/").content.decode()
    assert of_operator.prefix in page and of_owner.prefix not in page
    assert session("operator").post(f"/projects/lab/tokens/{of_owner.pk}/revoke/").status_code == 403
    assert session("owner").post(f"/projects/lab/tokens/{of_operator.pk}/revoke/").status_code == 302
    of_operator.refresh_from_db()
    of_owner.refresh_from_db()
    assert of_operator.revoked_at is not None and of_owner.revoked_at is None


def guest(address: str) -> Client:
    """Return the client of a guest's page, with the key in a header."""
    value = address.split("/")[2]
    return Client(headers={"Authorization": f"Bearer {value}"}, enforce_csrf_checks=True)


def shared(run: Run) -> tuple[AccessToken, str]:
    """Create a share link on its page and return its token and path."""
    answer = session("operator").post(f"/runs/{run.pk}/share/", {"days": "7"})
    (value,) = re.findall(r'value="http://testserver/share/(stm_[\w-]+)/"', answer.content.decode())
    return AccessToken.objects.get(digest=digest(value)), f"/share/{value}/"


def test_it_shows_one_run_by_link_without_login(run: Run) -> None:
    token, address = shared(run)
    answer = Client().get(address)
    page = answer.content.decode()
    assert answer.status_code == 200 and run.name in page
    assert 'data-testid="stop"' not in page and "/logout/" not in page and 'data-testid="share"' not in page
    assert answer.headers["Referrer-Policy"] == "strict-origin" and "no-store" in answer.headers["Cache-Control"]
    assert token.expires_at is not None and token.run == run


def test_it_shows_the_same_by_link_to_who_is_logged_in(run: Run) -> None:
    _, address = shared(run)
    page = session("owner").get(address).content.decode()
    assert "Owner Person" not in page and "/logout/" not in page and 'data-testid="clone"' not in page


def test_it_names_no_member_behind_a_link(run: Run) -> None:
    _, address = shared(run)
    Attempt.objects.create(run=run, number=1, host="a", boot_id="b", supervisor_pid=1, traceback="Traceback …")
    operator = user("operator")
    for author_id, name in ((operator.pk, "Operator Person"), (user("stranger").pk, "Gone Person"), (None, "SIGTERM")):
        record(run.pk, parse_command({"command": "stop"}), author_id=author_id, author_name=name)
    deleted = User.objects.create_user("deleted")
    for author_id, name in ((deleted.pk, "Deleted Person"), (None, "the command line")):
        record(run.pk, parse_command({"command": "stop"}), author_id=author_id, author_name=name)
    deleted.delete()
    for person in (operator, user("stranger"), None):
        finding = Finding(detector="spike", severity="warning", title="Spike", began_at=timezone.now())
        alert = alerts.begin(run.pk, 1, finding)
        if alert is not None and person is not None:
            alerts.acknowledge(run.pk, alert.pk, person.pk, "Alert Person")
    client = guest(address)
    told = client.get(f"/api/runs/{run.pk}/history/")
    authors = ["operator", "former member", "SIGTERM", "former member", "the command line"]
    assert [command["author"] for command in told.json()["commands"]] == authors
    assert [event["author"] for event in told.json()["events"] if event["kind"] == "command"] == authors
    assert [alert["by"] for alert in told.json()["alerts"]] == ["operator", "former member", ""]
    frames = [frame for _, frame in feed.replay(run.pk, 0, 100, 1 << 20) if names_somebody(frame)]
    seen = [json.loads(frame) for frame in nameless_frames(frames)]
    assert [event["by"] for event in seen if event["kind"] == "alert"] == ["", "operator", "", "former member", ""]
    assert "Person" not in told.content.decode() and "Traceback" not in told.content.decode()
    for path in ("details/", "place/", "points/?name=loss&from=0&to=9", "points/?name=loss&raw=true"):
        answer = client.get(f"/api/runs/{run.pk}/{path}")
        assert answer.status_code == 200 and "Person" not in answer.content.decode(), path


def test_it_gives_a_link_a_ticket_that_dies_with_it(run: Run) -> None:
    token, address = shared(run)
    answer = guest(address).post("/api/tickets/", {"run": run.pk}, content_type="application/json")
    grant = redeem_ticket(answer.json()["ticket"], run.pk)
    assert grant is not None and grant.token_id == token.pk


def test_it_ends_a_link_with_a_page_that_says_so(run: Run) -> None:
    token, address = shared(run)
    answer = session("operator").post(f"/projects/lab/tokens/{token.pk}/revoke/", {"share": "1"})
    assert answer.headers["Location"] == f"/runs/{run.pk}/share/"
    ended = Client().get(address)
    assert ended.status_code == 404 and "is no longer valid" in ended.content.decode()
    for path in ("history/", "details/", "place/", "points/?name=loss"):
        refused = guest(address).get(f"/api/runs/{run.pk}/{path}")
        assert refused.status_code == 401 and "ask for a new one" in refused.json()["error"], path
    refused = guest(address).post("/api/tickets/", {"run": run.pk}, content_type="application/json")
    assert refused.status_code == 401


def test_it_opens_nothing_else_with_a_link(run: Run, project: Project) -> None:
    _, value = made(project, TokenScope.SHARE, run=run)
    client = Client(headers={"Authorization": f"Bearer {value}"})
    for path in ("", f"{run.pk}/", *(f"{run.pk}/{name}/" for name in ("epochs", "series", "commands", "attempts"))):
        refused = client.get(f"/api/runs/{path}")
        assert refused.status_code == 403 and refused.json()["field"] == "Authorization", path
    stopped = client.post(f"/api/runs/{run.pk}/commands/", {"command": "stop"}, content_type="application/json")
    assert stopped.status_code == 403 and not run.commands.exists()
    assert client.get(f"/runs/{run.pk}/").status_code == 302
    other = Run.objects.create(project=project, name="second")
    for path in ("history/", "details/", "place/", "points/?name=loss"):
        assert client.get(f"/api/runs/{other.pk}/{path}").status_code == 404, path
    assert client.post("/api/tickets/", {"run": other.pk}, content_type="application/json").status_code == 404
    _, other = made(project, TokenScope.VIEW, run=run)
    assert Client().get(f"/share/{other}/").status_code == 404


def test_the_command_prints_the_value_once(project: Project, run: Run) -> None:
    output = io.StringIO()
    call_command(
        "create_token", project="lab", run=run.pk, scope="share", user="operator", days=3, name="talk", stdout=output
    )
    token = find_token(output.getvalue().strip(), {TokenScope.SHARE})
    assert token is not None and (token.name, token.run) == ("talk", run)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"project": "none"}, "--project"),
        ({"user": "nobody"}, "--user"),
        ({"user": "viewer"}, "--user"),
        ({"run": 999}, "--run"),
        ({"scope": "share"}, "--run"),
        ({"days": 0}, "--days"),
        ({"days": 10**9}, "--days"),
    ],
)
def test_the_command_names_the_option_that_cannot_be_used(project: Project, options: Any, option: str) -> None:
    given = {"project": "lab", "scope": "view", "user": "operator", **options}
    with pytest.raises(CommandError) as refused:
        call_command("create_token", **given)
    assert refused.value.returncode == 2 and str(refused.value).startswith(f"{option}: ")


def test_it_logs_no_key(run: Run, project: Project) -> None:
    _, value = made(project, TokenScope.SHARE, run=run)
    line = KeylessFormatter("{message}", style="{")
    for text in (
        f"Not Found: /share/{value}/",
        f"GET /ws/runs/1/?token={value[4:]} 500",
        f"Bearer {value}",
        f"/invite/{value[4:]}/",
        f"Gone: /alerts/act/{value[4:]}:1xXPC8:{value[4:]}/",
        f"GET /login/?next=/alerts/act/{value[4:]}%3A1xXPC8%3A{value[4:]}/ 500",
        f"GET /login/?next=%2Falerts%2Fact%2F{value[4:]}%3A1xXPC8%3A{value[4:]}%2F 500",
    ):
        logged = line.format(logging.LogRecord("test", logging.ERROR, "", 0, text, None, None))
        assert value[4:] not in logged and "…" in logged


def test_it_logs_through_that_alone() -> None:
    """Django's own handler would write addresses unchanged."""
    assert not logging.getLogger("django").handlers


@pytest.mark.parametrize(("logger", "traces"), [("django.security.DisallowedHost", False), ("django.request", True)])
def test_what_a_stranger_did_is_one_line(logger: str, traces: bool) -> None:
    """Each request for an unknown host used to log a traceback."""
    try:
        raise ValueError("ours")
    except ValueError as error:
        told = (ValueError, error, error.__traceback__)
    record = logging.LogRecord(logger, logging.ERROR, "", 0, "Invalid HTTP_HOST header: 'elsewhere'", None, told)
    line = KeylessFormatter("{message}", style="{")
    assert ("Traceback" in line.format(record)) == traces
    assert record.exc_info == told


def test_events_of_a_run_still_flow(run: Run) -> None:
    """Replacing names must leave all other events as they were stored."""
    from runs.protocol.events import LogLine, LogWritten

    feed.append(run.pk, LogWritten(attempt=1, lines=[LogLine(text='"kind":"command"')]))
    assert not names_somebody(feed.replay(run.pk, 0, 1, 1000)[0][1])
