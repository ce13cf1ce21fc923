"""An account from before single sign-on: its owner can connect it, and other people cannot."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.contrib.auth.models import User
from django.test import Client

from runs.models import AuditEntry
from tests.portal.test_chinese import english_of
from tests.sign_in.oidc_provider import Provider
from tests.sign_in.test_single_sign_on import provider, signed_on

__all__ = ["provider"]

PASSWORD = "a long and quiet river"
ADA_AT_WORK = {"sub": "ada-at-work", "preferred_username": "a.lovelace", "email": "ada@example.org"}


@pytest.fixture
def ada(provider: Provider) -> User:
    return User.objects.create_user("ada", email="ada@example.org", password=PASSWORD, first_name="Ada")


def logged_in(**options: Any) -> Client:
    client = Client(**options)
    assert client.post("/login/", {"username": "ada", "password": PASSWORD}).status_code == 302
    return client


def confirmed(client: Client, to: str = "/sso/") -> Any:
    return client.post(f"/second-factor/confirm/?next={to}", {"password": PASSWORD})


def led_on(page: Any) -> str:
    """Return the provider's address that a page redirects to."""
    assert page.status_code == 200
    return str(page.headers["Refresh"].removeprefix("0; url="))


def come_back(client: Client, address: str) -> Any:
    """Log in at the provider, and return to the portal as a browser does."""
    back = urlsplit(requests.get(address, allow_redirects=False, timeout=60).headers["Location"])
    return client.get(f"{back.path}?{back.query}")


def connected(provider: Provider, client: Client) -> Any:
    provider.claims = ADA_AT_WORK
    confirmed(client)
    return come_back(client, led_on(client.post("/sso/connect/")))


def who(client: Client) -> str:
    return User.objects.get(pk=client.session["_auth_user_id"]).username


def test_an_account_is_connected_and_logged_in_to_by_either_way(provider: Provider, ada: User) -> None:
    client = logged_in()
    assert 'href="/sso/"' in client.get("/").content.decode()
    assert "Connect Acme" in client.get("/sso/").content.decode()
    assert connected(provider, client).headers["Location"] == "/sso/"
    page = client.get("/sso/").content.decode()
    assert "a.lovelace" in page and "Connect Acme" not in page
    by_provider, _ = signed_on(provider, **ADA_AT_WORK)
    assert who(by_provider) == "ada" and User.objects.filter(username="ada").get().has_usable_password()
    assert who(logged_in()) == "ada"
    kinds = AuditEntry.objects.filter(kind__startswith="sign_on").values_list("kind", "actor_name", "person_name")
    assert list(kinds) == [("sign_on_connected", "ada", "ada")]


def test_it_is_connected_after_the_password_and_what_was_asked_goes_on(provider: Provider, ada: User) -> None:
    client = logged_in()
    asked = client.post("/sso/connect/")
    assert asked.headers["Location"] == "/second-factor/confirm/?next=%2Fsso%2Fconnect%2F"
    wrong = client.post(asked.headers["Location"], {"password": "guess"})
    assert wrong.status_code == 200 and "Refresh" not in wrong.headers
    provider.claims = ADA_AT_WORK
    come_back(client, led_on(client.post(asked.headers["Location"], {"password": PASSWORD})))
    assert ada.socialaccount_set.count() == 1


def test_it_is_disconnected_while_the_password_is_there(provider: Provider, ada: User) -> None:
    client = logged_in()
    connected(provider, client)
    path = re.search(r'action="(/sso/\d+/disconnect/)"', client.get("/sso/").content.decode())
    assert path is not None
    other = logged_in()
    assert other.post(path[1]).headers["Location"].startswith("/second-factor/confirm/")
    assert ada.socialaccount_set.count() == 1
    assert client.post(path[1]).headers["Location"] == "/sso/" and not ada.socialaccount_set.exists()
    assert AuditEntry.objects.filter(kind="sign_on_disconnected", actor_name="ada", person_name="ada").count() == 1
    # A login at the provider now creates a new user.
    stranger, _ = signed_on(provider, **ADA_AT_WORK)
    assert who(stranger) == "a.lovelace"


def test_the_only_way_in_stays(provider: Provider) -> None:
    client, _ = signed_on(provider, preferred_username="grace")
    grace = User.objects.get(username="grace")
    page = client.get("/sso/").content.decode()
    assert "This login is your only one" in page and "disconnect/" not in page
    answer = client.post(f"/sso/{grace.socialaccount_set.get().pk}/disconnect/")
    assert answer.headers["Location"] == "/sso/?refused=last" and grace.socialaccount_set.exists()


def test_nobody_disconnects_another(provider: Provider, ada: User) -> None:
    signed_on(provider, preferred_username="grace")
    grace = User.objects.get(username="grace")
    client = logged_in()
    confirmed(client)
    assert client.post(f"/sso/{grace.socialaccount_set.get().pk}/disconnect/").status_code == 404
    assert grace.socialaccount_set.exists()


@pytest.mark.parametrize("is_verified", [True, False, None])
@pytest.mark.parametrize("name", ["ada", "Ada", " ada ", "ａｄａ", "áda", "ada@example.org"])
def test_whoever_says_anothers_name_and_mail_is_somebody_else(
    provider: Provider, ada: User, name: str, is_verified: bool | None
) -> None:
    claims = {} if is_verified is None else {"email_verified": is_verified}
    client, _ = signed_on(provider, preferred_username=name, sub="mallory", **claims)
    taken = User.objects.get(pk=client.session["_auth_user_id"])
    assert taken.pk != ada.pk and taken.username.lower() != "ada" and not ada.socialaccount_set.exists()
    assert logged_in().get("/").status_code == 200


def test_a_login_of_another_account_is_not_moved(provider: Provider, ada: User) -> None:
    signed_on(provider, **ADA_AT_WORK)
    client = logged_in()
    answer = connected(provider, client)
    assert answer.headers["Location"] == "/sso/?refused=taken" and not ada.socialaccount_set.exists()
    assert "is connected to another account here" in client.get("/sso/?refused=taken").content.decode()


def test_no_other_page_begins_or_ends_a_connection(provider: Provider, ada: User) -> None:
    """Otherwise an attacker's page could make a browser connect its account with the attacker's login."""
    client = logged_in(enforce_csrf_checks=False)
    connected(provider, client)
    number = ada.socialaccount_set.get().pk
    client.handler.enforce_csrf_checks = True
    for path in ("/sso/connect/", f"/sso/{number}/disconnect/"):
        assert client.get(path).status_code == 405
        assert client.post(path).status_code == 403
    assert client.get("/sso/oidc/login/?process=connect").status_code == 404
    assert client.post("/sso/oidc/login/", {"process": "connect"}).status_code in (403, 404)
    assert ada.socialaccount_set.count() == 1


def test_a_way_back_that_another_session_began_connects_nothing(provider: Provider, ada: User) -> None:
    User.objects.create_user("eve", password=PASSWORD)
    eve = Client()
    eve.post("/login/", {"username": "eve", "password": PASSWORD})
    confirmed(eve)
    provider.claims = ADA_AT_WORK | {"sub": "eve-at-work"}
    address = led_on(eve.post("/sso/connect/"))
    victim = logged_in()
    confirmed(victim)
    assert come_back(victim, address).status_code == 401
    assert not ada.socialaccount_set.exists()


def test_who_has_no_password_here_confirms_by_a_new_login(
    provider: Provider, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STEERSMAN_SECOND_FACTOR = ("totp",)
    client, _ = signed_on(provider, preferred_username="grace")
    assert client.get("/second-factor/app/").status_code == 200
    monkeypatch.setattr("runs.sign_in.confirmation.LOGIN_HOLDS_S", 0.0)
    asked = client.get("/second-factor/app/")
    assert asked.headers["Location"] == "/second-factor/confirm/again/?next=%2Fsecond-factor%2Fapp%2F"
    assert "Log out, log in again" in client.get(asked.headers["Location"]).content.decode()


def test_a_provider_that_is_away_is_said_so(provider: Provider, ada: User) -> None:
    client = logged_in()
    confirmed(client)
    provider.stop()
    for answer in (client.post("/sso/connect/"), Client().get("/sso/oidc/login/")):
        assert answer.status_code == 401 and "did not succeed" in answer.content.decode()


def test_its_pages_are_chinese(provider: Provider, ada: User) -> None:
    client = logged_in(headers={"accept-language": "zh-CN"})
    names = {"ada", "Ada", "Acme", "a.lovelace", "Lovelace"}

    def english(page: str) -> set[str]:
        return {line for line in english_of(page.replace("Acme", "")) if line not in names}

    confirmed(client)
    provider.claims = ADA_AT_WORK
    for path in ("/sso/", "/sso/?refused=taken", "/sso/?refused=last", "/second-factor/confirm/again/"):
        assert english(client.get(path).content.decode()) == set(), path
    leaving = client.post("/sso/connect/")
    assert english(leaving.content.decode()) == set()
    come_back(client, led_on(leaving))
    assert english(client.get("/sso/").content.decode()) == set()


def test_without_a_provider_there_is_nothing_to_connect(db: None) -> None:
    User.objects.create_user("ada", password=PASSWORD)
    client = logged_in()
    assert [client.get("/sso/").status_code, client.post("/sso/connect/").status_code] == [404, 404]
    assert client.post("/sso/1/disconnect/").status_code == 404
    assert client.get("/second-factor/confirm/").status_code == 404
    assert "/sso/" not in client.get("/").content.decode()
