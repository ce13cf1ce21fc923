"""Single sign-on with a provider of OpenID Connect: who may log in, with which roles, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import environ
import pytest
import requests
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from monitor_site.environment.sign_in import GroupRole, single_sign_on
from runs.models import Membership, Project
from tests.portal.test_chinese import english_of
from tests.sign_in.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider


@pytest.fixture
def provider(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """A provider, and a portal configured for it as by the environment."""
    running = Provider()
    given = {
        "ISSUER": running.issuer, "CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET, "NAME": "Acme",
        "ROLES": "ml=lab:viewer, ml-ops=lab:operator, leads=lab:owner",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(f"STEERSMAN_OIDC_{name}", value)
    chosen = single_sign_on(environ.Env())
    assert chosen is not None
    settings.STEERSMAN_OIDC = chosen
    settings.SOCIALACCOUNT_PROVIDERS = chosen.providers()
    project = Project.objects.create(name="Lab", slug="lab")
    Membership.objects.create(project=project, user=User.objects.create_user("olga", password="x"), role="owner")
    yield running
    running.stop()


def signed_on(
    provider: Provider, to: str = "", headers: dict[str, str] | None = None, **claims: Any
) -> tuple[Client, Any]:
    """Log in as the user in the claims, as a browser would; return the browser and the portal's last response."""
    provider.claims = {"sub": "1", "preferred_username": "ada", "email": "ada@example.org", **claims}
    client = Client(headers=headers or {})
    leave = client.get("/sso/oidc/login/", {"next": to} if to else {})
    assert leave.headers["Location"].startswith(f"{provider.issuer}/authorize")
    back = urlsplit(requests.get(leave.headers["Location"], allow_redirects=False, timeout=60).headers["Location"])
    return client, client.get(f"{back.path}?{back.query}")


def role() -> str | None:
    return Membership.objects.filter(user__username="ada").values_list("role", flat=True).first()


def test_the_login_offers_it_and_the_first_login_makes_an_account(provider: Provider) -> None:
    page = Client().get("/login/?next=/projects/").content.decode()
    assert 'href="/sso/oidc/login/?next=%2Fprojects%2F"' in page and "Log in with Acme" in page
    client, answer = signed_on(provider, "/projects/", given_name="Ada", family_name="Lovelace")
    assert answer.headers["Location"] == "/projects/"
    ada = User.objects.get(username="ada")
    assert (ada.get_full_name(), ada.has_usable_password(), ada.is_staff) == ("Ada Lovelace", False, False)
    assert client.get("/").status_code == 200
    assert UserSession.objects.filter(user=ada).count() == 1
    signed_on(provider)
    assert User.objects.count() == 2


def test_groups_give_and_take_roles_at_each_login(provider: Provider) -> None:
    signed_on(provider, groups=["ml", "ml-ops", "others"])
    assert role() == "operator"
    signed_on(provider, groups="ml")
    assert role() == "viewer"
    signed_on(provider, groups=["leads"])
    assert role() == "owner"
    signed_on(provider)
    assert role() is None


def test_a_project_keeps_its_last_owner_and_others_are_left_alone(provider: Provider) -> None:
    signed_on(provider, groups=["leads"])
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="ada"), role="operator")
    Membership.objects.filter(user__username="olga").delete()
    signed_on(provider, groups=[])
    held = Membership.objects.filter(user__username="ada").values_list("project__slug", "role")
    assert sorted(held) == [("lab", "owner"), ("other", "operator")]


def test_an_account_of_the_same_name_or_mail_is_not_taken_over(provider: Provider) -> None:
    own = User.objects.create_user("ada", email="ada@example.org", password="x")
    client, _ = signed_on(provider, email_verified=True)
    assert int(client.session["_auth_user_id"]) != own.pk
    assert User.objects.count() == 3


def test_who_is_deactivated_stays_out(provider: Provider) -> None:
    signed_on(provider)
    User.objects.filter(username="ada").update(is_active=False)
    client, answer = signed_on(provider)
    assert answer.headers["Location"] == "/login/" and "_auth_user_id" not in client.session


def test_who_enrolled_gives_a_code_too_and_has_no_role_before(provider: Provider, settings: Any) -> None:
    settings.STEERSMAN_SECOND_FACTOR = ("totp",)
    signed_on(provider)
    TOTP.activate(User.objects.get(username="ada"), "A" * 32)
    assert Authenticator.objects.exists()
    client, answer = signed_on(provider, groups=["ml"])
    assert answer.headers["Location"] == "/second-factor/code/" and role() is None
    assert "_auth_user_id" not in client.session


def test_answers_that_do_not_hold_are_refused(provider: Provider, caplog: Any) -> None:
    provider.audience = "somebody else"
    client, answer = signed_on(provider)
    assert answer.status_code == 401 and "did not succeed" in answer.content.decode()
    _, in_chinese = signed_on(provider, headers={"accept-language": "zh-CN"})
    assert english_of(in_chinese.content.decode()) == []
    forged = Client().get("/sso/oidc/callback/?code=x&state=invented")
    assert forged.status_code == 401
    assert not User.objects.filter(username="ada").exists() and "_auth_user_id" not in client.session
    assert "single sign-on failed" in caplog.text and CLIENT_SECRET not in caplog.text


def test_the_admin_leads_to_the_login_that_offers_it(provider: Provider) -> None:
    assert Client().get("/admin/login/").headers["Location"].startswith("/login/?next=")


def test_without_a_provider_there_are_no_pages(db: None) -> None:
    assert Client().get("/sso/oidc/login/").status_code == 404
    assert b"sso" not in Client().get("/login/").content


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"ISSUER": "https://id.example.org"}, "set STEERSMAN_OIDC_CLIENT_ID, STEERSMAN_OIDC_CLIENT_SECRET too"),
        ({"ROLES": "a=b:owner"}, "STEERSMAN_OIDC_ISSUER, STEERSMAN_OIDC_CLIENT_ID"),
        (
            {"ISSUER": "http://id.example.org", "CLIENT_ID": "a", "CLIENT_SECRET": "b"},
            "give the https:// address of the provider",
        ),
        (
            {"ISSUER": "https://x", "CLIENT_ID": "a", "CLIENT_SECRET": "b", "ROLES": "ml=lab:boss"},
            "STEERSMAN_OIDC_ROLES: 'ml=lab:boss' is not a rule",
        ),
    ],
)
def test_half_a_setting_is_named(given: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"STEERSMAN_OIDC_{name}", value)
    with pytest.raises(ImproperlyConfigured, match=named):
        single_sign_on(environ.Env())


def test_a_group_may_hold_an_equals_sign_and_the_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"ISSUER": "https://x/", "CLIENT_ID": "a", "CLIENT_SECRET": CLIENT_SECRET, "ROLES": "cn=leads=lab:owner"}
    for name, value in given.items():
        monkeypatch.setenv(f"STEERSMAN_OIDC_{name}", value)
    chosen = single_sign_on(environ.Env())
    assert chosen is not None and chosen.roles == (GroupRole("cn=leads", "lab", "owner"),)
    assert CLIENT_SECRET not in repr(chosen)
