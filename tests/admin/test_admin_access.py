"""Tokens, memberships, invites and hosts in the admin."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.access.tokens import create_token, find_token
from runs.models import AccessToken, Host, Invite, Membership, Project, Role, Run

TOKENS = "/admin/runs/accesstoken/"
INVITES = "/admin/runs/invite/"


@pytest.fixture
def project(ada: User) -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    Membership.objects.create(project=project, user=ada, role=Role.OWNER)
    return project


def new_token(client: Client, project: Project, /, **fields: Any) -> Any:
    return client.post(
        f"{TOKENS}add/", {"name": "notebook", "scope": "view", "project": project.pk} | fields, follow=True
    )


def value_in(page: str) -> str:
    found = re.search(r"stm_[\w-]+(?=: copy it now)", page)
    assert found is not None
    return found.group()


def test_it_shows_a_new_token_once(client: Client, ada: User, project: Project) -> None:
    value = value_in(new_token(client, project).content.decode())
    token = AccessToken.objects.get()
    assert (token.name, token.scope, token.created_by, token.run) == ("notebook", "view", ada, None)
    assert find_token(value) == token
    for address in (TOKENS, f"{TOKENS}{token.pk}/change/", f"{TOKENS}{token.pk}/history/", "/admin/"):
        page = client.get(address).content.decode()
        assert value not in page and token.digest not in page
    assert token.prefix in client.get(TOKENS).content.decode()


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"scope": "share"}, "run", "A share link shows one run"),
        ({"expires_at_0": "2001-01-01", "expires_at_1": "00:00"}, "expires_at", "in the future"),
        ({"name": " "}, "name", "required"),
        ({"project": "99"}, "project", "Select a valid choice"),
    ],
)
def test_it_says_why_a_token_cannot_be_made(
    client: Client, project: Project, fields: dict[str, str], field: str, sentence: str
) -> None:
    answer = new_token(client, project, **fields)
    assert sentence in answer.context["adminform"].form.errors[field][0]
    assert not AccessToken.objects.exists()


def test_it_makes_no_token_for_who_may_not_command(client: Client, project: Project) -> None:
    Membership.objects.update(role=Role.VIEWER)
    answer = new_token(client, project)
    assert "Only operators and owners" in answer.context["adminform"].form.non_field_errors()[0]
    assert not AccessToken.objects.exists()


def test_it_revokes_tokens_and_never_changes_or_deletes_them(client: Client, ada: User, project: Project) -> None:
    made = [create_token(ada, project, "view", name=name) for name in ("a", "b", "c")]
    chosen = [token.pk for token, _ in made[:2]]
    answer = client.post(TOKENS, {"action": "revoke", "_selected_action": chosen}, follow=True)
    assert "2 tokens are revoked." in answer.content.decode()
    assert [find_token(value) is None for _, value in made] == [True, True, False]
    earlier = AccessToken.objects.get(pk=chosen[0]).revoked_at
    client.post(TOKENS, {"action": "revoke", "_selected_action": chosen})
    assert AccessToken.objects.get(pk=chosen[0]).revoked_at == earlier
    last = made[2][0]
    assert client.post(f"{TOKENS}{last.pk}/change/", {"name": "x", "revoked_at": ""}).status_code == 403
    assert client.post(f"{TOKENS}{last.pk}/delete/", {"post": "yes"}).status_code == 403


def test_staff_that_may_only_look_revokes_nothing(ada: User, project: Project) -> None:
    token, value = create_token(ada, project, "view", name="a")
    invite = Invite.objects.create(
        digest="d", project=project, created_by=ada, expires_at=timezone.now() + timedelta(days=1)
    )
    sven = User.objects.create_user("sven", is_staff=True)
    sven.user_permissions.set(Permission.objects.filter(codename__in=("view_accesstoken", "view_invite")))
    client = Client()
    client.force_login(sven)
    for address, row in ((TOKENS, token), (INVITES, invite)):
        assert client.get(address).status_code == 200
        client.post(address, {"action": "revoke", "_selected_action": [row.pk]})
    assert find_token(value) is not None
    invite.refresh_from_db()
    assert invite.revoked_at is None


def test_it_shows_invites_and_revokes_open_ones(client: Client, ada: User, project: Project) -> None:
    later = timezone.now() + timedelta(days=1)

    def invite(digest: str, **fields: Any) -> Invite:
        return Invite.objects.create(**({"digest": digest, "project": project, "created_by": ada,
                                         "expires_at": later} | fields))  # fmt: skip

    unused = invite("secret-1")
    used = invite("secret-2", used_at=timezone.now(), used_by=ada)
    invite("secret-3", expires_at=timezone.now() - timedelta(days=1))
    page = client.get(INVITES).content.decode()
    for text in ("open", "used", "expired"):
        assert text in page
    assert "secret-" not in page + client.get(f"{INVITES}{unused.pk}/change/").content.decode()
    client.post(INVITES, {"action": "revoke", "_selected_action": [unused.pk, used.pk]})
    unused.refresh_from_db()
    used.refresh_from_db()
    assert unused.revoked_at is not None and used.revoked_at is None
    assert client.get(f"{INVITES}add/").status_code == 403


def test_it_manages_memberships(client: Client, project: Project) -> None:
    olga = User.objects.create_user("olga")
    answer = client.post("/admin/runs/membership/add/", {"user": olga.pk, "project": project.pk, "role": "operator"})
    assert answer.status_code == 302
    membership = Membership.objects.get(user=olga)
    change = f"/admin/runs/membership/{membership.pk}/change/"
    client.post(change, {"user": olga.pk, "project": project.pk, "role": "viewer"})
    membership.refresh_from_db()
    assert membership.role == Role.VIEWER
    client.post(f"/admin/runs/membership/{membership.pk}/delete/", {"post": "yes"})
    assert not Membership.objects.filter(user=olga).exists()


def test_hosts_are_to_look_at(client: Client) -> None:
    host = Host.objects.create(name="gpu-07", heartbeat_at=timezone.now(), devices=[{"name": "cpu"}])
    Host.objects.create(name="gpu-08", heartbeat_at=timezone.now() - timedelta(minutes=5))
    page = client.get("/admin/runs/host/").content.decode()
    for text in ("gpu-07", "watching", "no heartbeat"):
        assert text in page
    assert client.get(f"/admin/runs/host/{host.pk}/change/").status_code == 200
    assert client.get("/admin/runs/host/add/").status_code == 403
    assert client.post(f"/admin/runs/host/{host.pk}/delete/", {"post": "yes"}).status_code == 403


def test_how_many_runs_a_host_takes_is_to_set(client: Client) -> None:
    host = Host.objects.create(name="gpu-07", heartbeat=5, heartbeat_at=timezone.now(), devices=[{"device": "cpu"}])
    address = f"/admin/runs/host/{host.pk}/change/"
    page = client.post(address, {"slots_per_device": "65", "cpu_slots": "-1"}).content.decode()
    assert page.count("errorlist") + page.count("text-red") >= 2 and "64" in page
    client.post(address, {"slots_per_device": "2", "cpu_slots": "", "name": "other", "heartbeat": "9"})
    host.refresh_from_db()
    assert (host.slots_per_device, host.cpu_slots, host.name, host.heartbeat) == (2, None, "gpu-07", 5)


@pytest.mark.parametrize("address", [TOKENS, INVITES, "/admin/runs/membership/"])
def test_its_lists_cost_the_same_whatever_their_length(client: Client, address: str) -> None:
    def add(number: int) -> None:
        for _ in range(number):
            name = f"p{Project.objects.count()}"
            user = User.objects.create_user(name)
            project = Project.objects.create(name=name, slug=name)
            Membership.objects.create(project=project, user=user, role=Role.OWNER)
            run = Run.objects.create(project=project, name=name)
            create_token(user, project, "share", name=name, run=run)
            Invite.objects.create(
                digest=name, project=project, created_by=user, used_by=user, expires_at=timezone.now()
            )

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(address).status_code == 200
        return len(captured)

    add(3)
    queries()
    few = queries()
    add(12)
    assert queries() == few
