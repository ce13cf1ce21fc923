"""People: invites, roles, the last owner, and what each role sees on the members page."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from runs.access import membership
from runs.access.membership import InviteUnusable, accept, invite
from runs.models import Invite, Membership, Project, Role

pytestmark = pytest.mark.django_db

ACCOUNT = {
    "username": "newcomer", "full_name": "New Comer", "password1": "calm river stones", "password2": "calm river stones"
}  # fmt: skip


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create_user(role), role=role)
    User.objects.create_user("stranger")
    User.objects.create_superuser("admin")
    return project


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def role_of(name: str) -> str | None:
    return Membership.objects.filter(user__username=name).values_list("role", flat=True).first()


def member(name: str) -> Membership:
    return Membership.objects.get(user__username=name)


def owner() -> User:
    return User.objects.get(username="owner")


def test_an_owner_makes_an_invite_link_that_is_shown_once(project: Project) -> None:
    client = client_of("owner")
    answer = client.post(reverse("members", args=["lab"]), {"role": "operator"})
    link = re.search(r'value="http://testserver/invite/([\w-]{43})/"', answer.content.decode())
    assert link
    assert "no-store" in answer.headers["Cache-Control"]
    stored = Invite.objects.get()
    assert link[1] not in stored.digest and len(stored.digest) == 64
    assert timedelta(days=6, hours=23) < stored.expires_at - timezone.now() <= timedelta(days=7)
    assert link[1] not in client.get(reverse("members", args=["lab"])).content.decode()


def test_a_user_joins_with_the_role_of_the_invite_once(project: Project) -> None:
    key = invite(project, Role.OPERATOR, owner())
    client = client_of("stranger")
    page = client.get(reverse("invite", args=[key])).content.decode()
    assert "Join Lab" in page and "Join as stranger" in page
    assert role_of("stranger") is None, "looking is not joining"
    client.post(reverse("invite", args=[key]))
    assert role_of("stranger") == Role.OPERATOR
    again = client_of("admin").post(reverse("invite", args=[key]))
    assert again.status_code == 404
    assert "has already been used" in again.content.decode()
    assert role_of("admin") is None


def test_somebody_new_makes_an_account_and_is_logged_in(project: Project) -> None:
    key = invite(project, Role.VIEWER, owner())
    client = Client()
    weak = client.post(reverse("invite", args=[key]), ACCOUNT | {"password1": "12345678", "password2": "12345678"})
    assert weak.status_code == 422
    assert "too common" in weak.content.decode()
    assert Invite.objects.get().used_at is None
    answer = client.post(reverse("invite", args=[key]), ACCOUNT)
    assert answer.headers["Location"] == reverse("runs")
    made = User.objects.get(username="newcomer")
    assert (made.get_full_name(), made.is_staff, role_of("newcomer")) == ("New Comer", False, Role.VIEWER)
    assert client.get(reverse("members", args=["lab"])).status_code == 200


def test_no_account_is_left_where_somebody_else_was_faster(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    key = invite(project, Role.VIEWER, owner())
    found = membership.find_invite(key)
    accept(key, User.objects.get(username="stranger"))
    monkeypatch.setattr(membership, "find_invite", lambda key: found)
    answer = Client().post(reverse("invite", args=[key]), ACCOUNT)
    assert answer.status_code == 404
    assert not User.objects.filter(username="newcomer").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "has expired"),
        ({"revoked_at": timezone.now()}, "was withdrawn"),
        ({"digest": "0" * 64}, "There is no invite with this link"),
    ],
)
def test_it_says_why_an_invite_cannot_be_used(project: Project, change: dict[str, Any], words: str) -> None:
    key = invite(project, Role.OWNER, owner())
    Invite.objects.update(**change)
    for method in ("get", "post"):
        answer = getattr(client_of("stranger"), method)(reverse("invite", args=[key]))
        assert answer.status_code == 404
        assert words in answer.content.decode()
    with pytest.raises(InviteUnusable):
        accept(key, User.objects.get(username="stranger"))
    assert role_of("stranger") is None


def test_an_invite_lifts_a_role_and_never_lowers_it(project: Project) -> None:
    accept(invite(project, Role.VIEWER, owner()), owner())
    assert role_of("owner") == Role.OWNER
    accept(invite(project, Role.OPERATOR, owner()), User.objects.get(username="viewer"))
    assert role_of("viewer") == Role.OPERATOR


def test_an_invite_ends_with_the_right_of_who_made_it(project: Project) -> None:
    key = invite(project, Role.OWNER, owner())
    membership.change_role(member("operator"), Role.OWNER)
    membership.remove(member("owner"))
    answer = client_of("owner").post(reverse("invite", args=[key]))
    assert answer.status_code == 404
    assert "no longer an owner" in answer.content.decode()
    assert role_of("owner") is None


def test_an_owner_withdraws_an_invite(project: Project) -> None:
    invite(project, Role.VIEWER, owner())
    client_of("owner").post(reverse("revoke_invite", args=["lab", Invite.objects.get().pk]))
    assert Invite.objects.get().revoked_at is not None
    assert membership.open_invites(project) == []


def test_an_owner_changes_roles_and_removes_members(project: Project) -> None:
    client = client_of("owner")
    client.post(reverse("change_role", args=["lab", member("viewer").pk]), {"role": "operator"})
    assert role_of("viewer") == Role.OPERATOR
    client.post(reverse("change_role", args=["lab", member("viewer").pk]), {"role": "emperor"})
    assert role_of("viewer") == Role.OPERATOR
    client.post(reverse("remove_member", args=["lab", member("viewer").pk]))
    assert role_of("viewer") is None


def test_the_last_owner_stays(project: Project) -> None:
    client = client_of("owner")
    for route, data in (("remove_member", {}), ("change_role", {"role": "viewer"})):
        answer = client.post(reverse(route, args=["lab", member("owner").pk]), data, follow=True)
        assert "A project needs an owner" in answer.content.decode()
        assert role_of("owner") == Role.OWNER
    client.post(reverse("change_role", args=["lab", member("operator").pk]), {"role": "owner"})
    answer = client.post(reverse("remove_member", args=["lab", member("owner").pk]))
    assert answer.headers["Location"] == reverse("projects")
    assert role_of("owner") is None


@pytest.mark.parametrize(("name", "status"), [("operator", 403), ("viewer", 403), ("stranger", 404), ("admin", 404)])
def test_only_owners_change_who_belongs(project: Project, name: str, status: int) -> None:
    invite(project, Role.OWNER, owner())
    target, client = member("viewer").pk, client_of(name)
    for route, arguments in (
        ("members", ["lab"]),
        ("change_role", ["lab", target]),
        ("remove_member", ["lab", target]),
        ("revoke_invite", ["lab", Invite.objects.get().pk]),
    ):
        assert client.post(reverse(route, args=arguments), {"role": "owner"}).status_code == status
    assert role_of("viewer") == Role.VIEWER
    assert Invite.objects.filter(revoked_at=None).count() == 1


def test_members_of_another_project_are_out_of_an_owners_reach(project: Project) -> None:
    other = Project.objects.create(name="Other", slug="other")
    theirs = Membership.objects.create(project=other, user=User.objects.get(username="stranger"), role=Role.VIEWER)
    answer = client_of("owner").post(reverse("remove_member", args=["lab", theirs.pk]))
    assert answer.status_code == 404
    assert role_of("stranger") == Role.VIEWER


@pytest.mark.parametrize("name", ["operator", "viewer"])
def test_others_see_the_members_without_controls(project: Project, name: str) -> None:
    page = client_of(name).get(reverse("members", args=["lab"])).content.decode()
    assert page.count("data-member=") == 3
    main = page.split("<main", 1)[1].split("</main>")[0]
    assert "<form" not in main and "<button" not in main


def test_staff_make_projects_and_own_them(project: Project) -> None:
    assert client_of("operator").post(reverse("projects"), {"name": "Mine"}).status_code == 403
    assert "New project" not in client_of("operator").get(reverse("projects")).content.decode()
    client = client_of("admin")
    for name, slug in (("Speech team", "speech-team"), ("Speech team", "speech-team-2"), ("语音", "project")):
        assert client.post(reverse("projects"), {"name": name}).headers["Location"] == reverse("members", args=[slug])
    assert Membership.objects.filter(user__username="admin", role=Role.OWNER).count() == 3
    taken = client.post(reverse("projects"), {"name": "x", "slug": "lab"})
    assert taken.status_code == 422
    assert "Another project already has this short name" in taken.content.decode()


def print_invite(*arguments: str) -> str:
    out = StringIO()
    call_command("invite", *arguments, stdout=out)
    return out.getvalue().strip()


def test_the_command_prints_a_link_that_works(project: Project) -> None:
    link = print_invite("--project", "lab", "--role", "operator", "--days", "1")
    found = re.fullmatch(r"http://127\.0\.0\.1:\d+(/invite/[\w-]{43}/)", link)
    assert found
    client_of("stranger").post(found[1])
    assert role_of("stranger") == Role.OPERATOR


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--project", "lba"), "project: there is no project 'lba'; choose one of: lab"),
        (("--project", "lab", "--role", "boss"), "role: 'boss' is not a role; use one of viewer, operator, owner"),
        (("--project", "lab", "--days", "0"), "days: give a whole number from 1 to 90"),
        (("--project", "lab", "--user", "nobody"), "user: there is no 'nobody'"),
        (("--project", "lab", "--user", "viewer"), "user: viewer is not an owner of lab"),
    ],
)
def test_the_command_answers_bad_input_with_a_sentence(
    project: Project, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(CommandError, match=re.escape(words)) as refused:
        print_invite(*arguments)
    assert refused.value.returncode == 2
