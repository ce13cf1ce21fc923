"""The audit: who did what, when and from where. People only see their own part, and it contains no secret."""

from __future__ import annotations

import csv
import re
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from runs.audit import entries
from runs.models import (
    AccessToken,
    AlertDestination,
    AlertRule,
    AuditEntry,
    Command,
    Invite,
    MailAccount,
    Membership,
    Project,
    Role,
    Run,
)

PASSWORD = "a long and quiet river"
CANARY = "canary0123456789"
ADDRESS = "192.0.2.7"


@pytest.fixture
def lab(db: None) -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in ("owner", "viewer"):
        user = User.objects.create_user(role, password=PASSWORD)
        Membership.objects.create(project=project, user=user, role=role)
    User.objects.create_superuser("root", password=PASSWORD)
    AuditEntry.objects.all().delete()
    return project


def visitor(name: str = "", address: str = ADDRESS) -> Client:
    client = Client(REMOTE_ADDR=address)
    if name:
        assert client.post("/login/", {"username": name, "password": PASSWORD}).status_code == 302
    return client


def told() -> list[tuple[str, str, str, str]]:
    """Return kind, actor, person and detail of all entries, oldest first."""
    rows = AuditEntry.objects.order_by("id")
    return [(each.kind, each.actor_name, each.person_name, each.detail) for each in rows]


def kinds(page: str) -> list[str]:
    return re.findall(r'<li class="person" data-kind="(\w+)"', page)


def test_logins_sessions_and_passwords(lab: Project) -> None:
    client, other = visitor("viewer"), visitor("viewer")
    page = client.get("/sessions/").content.decode()
    paths = re.findall(r'action="(/sessions/\d+/end/)"', page)
    client.post(paths[-1])
    assert other.get("/sessions/").status_code == 302
    changed = {"old_password": PASSWORD, "new_password1": f"new {CANARY}", "new_password2": f"new {CANARY}"}
    assert client.post("/password/", changed).status_code == 302
    client.post("/logout/")
    assert [(kind, actor) for kind, actor, *_ in told()] == [
        ("login", "viewer"),
        ("login", "viewer"),
        ("session_ended", "viewer"),
        ("password_changed", "viewer"),
        ("logout", "viewer"),
    ]
    assert set(AuditEntry.objects.values_list("address", flat=True)) == {ADDRESS}


def test_a_password_that_is_set_for_another_names_both(lab: Project) -> None:
    user = User.objects.get(username="viewer")
    user.set_password("another long river")
    user.save()
    user.is_active = False
    user.save()
    assert told() == [
        ("password_changed", "the command line", "viewer", ""),
        ("account_changed", "the command line", "viewer", "is_active"),
    ]


def test_wrong_passwords_are_told_until_they_lock_and_no_unknown_name_is_kept(lab: Project, settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 3
    client = visitor()
    for _ in range(5):
        client.post("/login/", {"username": "viewer", "password": CANARY})
    # The admin's login checks the lock last.
    client.post("/admin/login/", {"username": "viewer", "password": CANARY})
    visitor(address="198.51.100.1").post("/login/", {"username": f"my {CANARY}", "password": "x"})
    assert [(kind, person) for kind, _actor, person, _ in told()] == [
        *[("login_failed", "viewer")] * 3,
        ("locked", "viewer"),
        ("login_failed", ""),
    ]


def test_a_second_factor_is_removed_by_its_person_or_reset_by_another(lab: Project) -> None:
    viewer = User.objects.get(username="viewer")
    Authenticator.objects.create(user=viewer, type=Authenticator.Type.TOTP, data={"secret": CANARY})
    call_command("reset_second_factor", "viewer")
    assert [(kind, person) for kind, _, person, _ in told()] == [
        ("factor_added", "viewer"),
        ("factor_reset", "viewer"),
    ]


def test_roles_invites_tokens_and_share_links(lab: Project) -> None:
    run = Run.objects.create(project=lab, name="spring")
    owner = visitor("owner")
    member = Membership.objects.get(user__username="viewer")
    owner.post(f"/projects/lab/members/{member.pk}/role/", {"role": "operator"})
    owner.post(f"/projects/lab/members/{member.pk}/remove/")
    link = re.search(r"/invite/([\w-]+)/", owner.post("/projects/lab/members/", {"role": "viewer"}).content.decode())
    assert link is not None
    joining = {"username": "ada", "full_name": "Ada", "password1": PASSWORD, "password2": PASSWORD}
    assert visitor().post(link[0], joining).status_code == 302
    owner.post("/projects/lab/members/", {"role": "viewer"})
    owner.post(f"/projects/lab/invites/{Invite.objects.get(used_at=None).pk}/revoke/")
    page = owner.post("/projects/lab/tokens/", {"name": "ci", "scope": "view", "days": "1"}).content.decode()
    value = re.search(r"stm_[\w-]+", page)
    assert value is not None
    for _ in range(2):
        assert visitor().get("/api/runs/", headers={"authorization": f"Bearer {value[0]}"}).status_code == 200
    owner.post(f"/projects/lab/tokens/{AccessToken.objects.get().pk}/revoke/")
    shown = re.search(r"/share/(stm_[\w-]+)/", owner.post(f"/runs/{run.pk}/share/", {"days": "1"}).content.decode())
    assert shown is not None
    assert visitor().get(shown[0]).status_code == 200
    owner.post(f"/projects/lab/tokens/{AccessToken.objects.get(scope='share').pk}/revoke/")
    assert told()[1:] == [
        ("role_changed", "owner", "viewer", "viewer → operator"),
        ("role_taken", "owner", "viewer", "operator"),
        ("invite_made", "owner", "owner", "viewer"),
        ("account_added", "ada", "ada", ""),
        ("invite_used", "ada", "ada", "viewer"),
        ("role_given", "ada", "ada", "viewer"),
        ("login", "ada", "", ""),
        ("invite_made", "owner", "owner", "viewer"),
        ("invite_revoked", "owner", "owner", "viewer"),
        ("token_made", "owner", "owner", "view"),
        ("token_used", "owner", "owner", "view"),
        ("token_revoked", "owner", "owner", "view"),
        ("share_made", "owner", "owner", "share"),
        ("share_used", "", "owner", "share"),
        ("share_revoked", "owner", "owner", "share"),
    ]
    kept = " ".join(str(row) for row in AuditEntry.objects.values())
    assert not any(secret in kept for secret in (value[0], shown[1], link[1]))


def test_rules_destinations_and_mail_are_told_without_their_values(lab: Project) -> None:
    rule = AlertRule.objects.create(project=lab, detector="spike")
    rule.is_on = False
    rule.save()
    rule.delete()
    target = AlertDestination.objects.create(project=lab, name="desk", secret=CANARY, hint=CANARY)
    target.secret = f"more {CANARY}"
    target.save()
    target.delete()
    account = MailAccount.objects.create(project=lab, host="smtp.example.org", secret=CANARY, user=CANARY)
    account.port = 587
    account.save()
    account.delete()
    assert [(kind, detail) for kind, _, _, detail in told()] == [
        ("rule_added", ""), ("rule_changed", "is_on"), ("rule_deleted", ""),
        ("destination_added", ""), ("destination_changed", "secret"), ("destination_deleted", ""),
        ("mail_added", ""), ("mail_changed", "port"), ("mail_deleted", ""),
    ]  # fmt: skip
    assert CANARY not in " ".join(str(row) for row in AuditEntry.objects.values())


def test_a_deleted_project_is_one_entry_that_stays(lab: Project) -> None:
    number = lab.pk
    lab.delete()
    (only,) = AuditEntry.objects.all()
    assert (only.kind, only.project_name, only.project_number) == ("project_deleted", "Lab", number)


def test_administrators_see_all_and_owners_their_project_without_addresses(lab: Project) -> None:
    other = Project.objects.create(name="Other", slug="other")
    run = Run.objects.create(project=lab, name="spring", state="running")
    owner_account = User.objects.get(username="owner")
    Command.objects.create(
        run=run, kind="pause", author=owner_account, author_name="Owner", sent_at=timezone.now(), state="sent"
    )
    Membership.objects.create(project=other, user=owner_account, role=Role.VIEWER)
    root, owner, viewer = (visitor(name) for name in ("root", "owner", "viewer"))
    owner.post("/projects/lab/tokens/", {"name": "ci", "scope": "view", "days": "1"})
    page = root.get("/audit/").content.decode()
    assert kinds(page) == ["token_made", "login", "login", "login", "role_given", "command", "project_added"]
    assert ADDRESS in page
    page = owner.get("/projects/lab/audit/").content.decode()
    assert kinds(page) == ["token_made", "command"] and ADDRESS not in page
    assert kinds(owner.get("/projects/lab/audit/?project=other").content.decode()) == ["token_made", "command"]
    assert ADDRESS not in b"".join(owner.get("/projects/lab/audit/?csv=1")).decode()  # type: ignore[arg-type]
    assert owner.get("/projects/other/audit/").status_code == 403
    assert [viewer.get(path).status_code for path in ("/audit/", "/projects/lab/audit/", "/projects/other/audit/")] == [
        403,
        403,
        404,
    ]
    reader = User.objects.get(username="viewer")
    reader.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    assert viewer.get("/audit/").status_code == 200


def test_it_is_narrowed_by_kind_person_project_and_period(lab: Project) -> None:
    root, _ = visitor("root"), visitor("viewer")
    run = Run.objects.create(project=lab, name="spring", state="running")
    day = timezone.now().date().isoformat()
    Command.objects.create(run=run, kind="stop", author_name="a rule", sent_at=timezone.now(), state="sent")

    def found(query: str) -> list[str]:
        return kinds(root.get(f"/audit/?{query}").content.decode())

    assert found("kind=login") == ["login", "login"]
    assert found("kind=command") == ["command"]
    assert found("person=VIEWER") == ["login"]
    assert found("person=a+rule") == ["command"]
    assert found("project=lab") == ["command"]
    assert len(found(f"since={day}&until={day}")) == 3
    assert found("until=2001-01-01") == found("since=9998-12-31") == []
    # Invalid parameters do not filter.
    assert len(found("until=9999-12-31&kind=x&project=x&since=0001-01-01&below=x")) == 3


def test_pages_and_csv_hold_each_line_once(lab: Project) -> None:
    root = visitor("root")
    run = Run.objects.create(project=lab, name="spring", state="running")
    moment = timezone.now()
    for number in range(60):
        entries.record(entries.AuditKind.LOGOUT, what="=1+1")
        # Entries and commands at the same time, more than a page of each.
        Command.objects.create(run=run, kind="pause", author_name="Ada", sent_at=moment, reason=str(number))
    AuditEntry.objects.filter(kind="logout").update(at=moment)
    address, seen = "/audit/", []
    while address:
        page = root.get(address).content.decode()
        seen += kinds(page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        address = "/audit/" + older[1].replace("&amp;", "&") if older else ""
    assert sorted(seen) == ["command"] * 60 + ["login"] + ["logout"] * 60
    answer = root.get("/audit/?csv=1")
    rows = list(csv.DictReader(b"".join(answer).decode().splitlines()))  # type: ignore[arg-type]
    assert sorted(row["kind"] for row in rows) == sorted(seen)
    assert {row["name"] for row in rows if row["kind"] == "logout"} == {"'=1+1"}


def test_old_entries_go_as_new_ones_come(lab: Project, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        entries.record(entries.AuditKind.LOGOUT)
    first = AuditEntry.objects.order_by("id").first()
    assert first is not None
    AuditEntry.objects.filter(pk=first.pk).update(at=timezone.now() - timedelta(days=31))
    settings.STEERSMAN_AUDIT_DAYS = 0
    monkeypatch.setattr(entries, "_pruned_at", None)
    entries.record(entries.AuditKind.LOGOUT)
    assert AuditEntry.objects.count() == 3
    settings.STEERSMAN_AUDIT_DAYS = 30
    monkeypatch.setattr(entries, "_pruned_at", None)
    entries.record(entries.AuditKind.LOGOUT)
    assert AuditEntry.objects.count() == 3 and not AuditEntry.objects.filter(pk=first.pk).exists()
