"""Attempts of an attacker with half of a login: an old cookie, a password without the code, a foreign page."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyotp
import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

PASSWORD = "a long and quiet river"
SECRET = "A" * 32
NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def root(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> User:
    """A superuser who needs a code."""
    # django-allauth records used codes in the cache, which outlives one test.
    cache.clear()
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time", SimpleNamespace(time=lambda: NOW))
    settings.STEERSMAN_SECOND_FACTOR = ("totp", "webauthn")
    root = User.objects.create_superuser("root", password=PASSWORD)
    TOTP.activate(root, SECRET)
    RecoveryCodes.activate(root)
    return root


def half_in() -> Client:
    client = Client()
    client.post("/login/", {"username": "root", "password": PASSWORD})
    return client


def test_a_session_from_before_the_login_is_not_the_one_after_it() -> None:
    client = half_in()
    before = client.cookies["steersman_session"].value
    client.post("/second-factor/code/", {"code": pyotp.TOTP(SECRET).at(NOW)})
    assert client.get("/").status_code == 200 and client.cookies["steersman_session"].value != before
    thief = Client()
    thief.cookies["steersman_session"] = before
    assert thief.get("/").status_code == 302


@pytest.mark.parametrize(
    "path",
    [
        "/", "/admin/", "/sessions/", "/password/", "/sso/", "/second-factor/", "/second-factor/app/remove/",
        "/second-factor/recovery/", "/second-factor/recovery/codes.txt", "/second-factor/passkey/",
        "/second-factor/confirm/", "/second-factor/confirm/code/", "/second-factor/confirm/passkey/",
    ],
)  # fmt: skip
def test_a_password_without_the_code_opens_nothing(path: str, settings: Any) -> None:
    client = half_in()
    for answer in (client.get(path), client.post(path, {"password": PASSWORD, "code": "000000"})):
        assert answer.status_code in (302, 404) and answer.headers.get("Location", "/login/") != "/second-factor/"
    assert Authenticator.objects.count() == 2 and "_auth_user_id" not in client.session
    assert client.get("/api/runs/").status_code == 401


def test_the_admins_form_and_basic_authentication_let_nobody_past_the_code() -> None:
    client = Client()
    client.post("/admin/login/?next=/admin/", {"username": "root", "password": PASSWORD})
    assert client.get("/admin/").status_code == 302
    basic = Client(headers={"authorization": "Basic cm9vdDphIGxvbmcgYW5kIHF1aWV0IHJpdmVy"})
    assert basic.get("/api/runs/").status_code == 401


@pytest.mark.parametrize("to", ["https://evil.example.org/", "//evil.example.org", "/\\evil.example.org"])
def test_no_login_leads_to_another_site(to: str) -> None:
    client = Client()
    client.post("/login/", {"username": "root", "password": PASSWORD, "next": to})
    done = client.post(f"/second-factor/code/?next={to}", {"code": pyotp.TOTP(SECRET).at(NOW), "next": to})
    assert done.headers["Location"] == "/"
    confirmed = client.post(f"/second-factor/confirm/?next={to}", {"password": PASSWORD, "next": to})
    assert confirmed.headers["Location"] == "/"


def test_a_name_that_is_there_is_refused_as_one_that_is_not() -> None:
    """The text is the same, and both cases hash one password."""
    pages = [
        Client().post("/login/", {"username": name, "password": "guess"}).content.decode().replace(name, "")
        for name in ("root", "nobody-here")
    ]
    errors = [page[page.index('role="alert"') :].split("</div>")[0] for page in pages]
    assert errors[0] == errors[1]
