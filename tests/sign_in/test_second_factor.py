"""The second factor: enrolled users need a code at every login, each code works once, and wrong ones are counted."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pyotp
import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import Client

from monitor_site.environment.sign_in import second_factor
from runs.access.tokens import create_token
from runs.models import Membership, Project
from tests.portal.test_chinese import english_of

PASSWORD = "a long and quiet river"
# Codes change every 30 s, so the clock of the portal's check is fixed.
NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def people(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time", SimpleNamespace(time=lambda: NOW))
    settings.STEERSMAN_SECOND_FACTOR = ("totp",)
    User.objects.create_user("ada", password=PASSWORD)
    User.objects.create_superuser("root", password=PASSWORD)


def given_password(name: str = "ada", to: str = "") -> tuple[Client, Any]:
    client = Client()
    return client, client.post("/login/", {"username": name, "password": PASSWORD, "next": to})


def code_of(secret: str, periods: int = 0) -> str:
    """Return the code that the app shows now, or `periods` periods of 30 s from now."""
    return pyotp.TOTP(secret).at(NOW + 30 * periods)


def enrolled(name: str = "ada") -> tuple[str, list[str]]:
    """Enrol a person's app on the pages, as the person would; return its key and the recovery codes."""
    client, answer = given_password(name)
    assert answer.headers["Location"] == "/"
    confirm = client.get("/second-factor/app/")
    assert unquote(confirm.headers["Location"]) == "/second-factor/confirm/?next=/second-factor/app/"
    back = client.post(confirm.headers["Location"], {"password": PASSWORD})
    page = client.get(back.headers["Location"]).content.decode()
    secret = re.search(r'id="app-key"[^>]*value="([A-Z2-7]+)"', page)
    assert secret is not None
    # Use the previous code, so that the current and the next one remain for logins.
    answer = client.post("/second-factor/app/", {"code": code_of(secret[1], -1)})
    assert answer.headers["Location"] == "/second-factor/recovery/"
    shown = client.get("/second-factor/recovery/").content.decode()
    codes = re.search(r'data-testid="recovery-codes">(.*?)</pre>', shown, re.S)
    assert codes is not None
    return secret[1], codes[1].split()


def is_in(client: Client) -> bool:
    return client.get("/").status_code == 200


def test_a_login_needs_a_code_that_holds_once() -> None:
    secret, _ = enrolled()
    client, answer = given_password(to="/projects/")
    assert answer.headers["Location"] == "/second-factor/code/"
    assert not is_in(client)
    answer = client.post("/second-factor/code/", {"code": "000000"})
    assert "This code is wrong" in answer.content.decode() and not is_in(client)
    code = code_of(secret)
    assert client.post("/second-factor/code/", {"code": code}).headers["Location"] == "/projects/"
    assert is_in(client)
    again, _ = given_password()
    assert "This code is wrong" in again.post("/second-factor/code/", {"code": code}).content.decode()
    assert again.post("/second-factor/code/", {"code": code_of(secret, 1)}).status_code == 302 and is_in(again)


def test_a_code_that_another_web_process_took_is_refused() -> None:
    """Each process has a separate cache, so used codes are stored in the database."""
    secret, _ = enrolled()
    code = code_of(secret)
    first, second = given_password()[0], given_password()[0]
    assert first.post("/second-factor/code/", {"code": code}).status_code == 302
    cache.clear()
    second.post("/second-factor/code/", {"code": code})
    assert not is_in(second)


def test_a_recovery_code_logs_in_once() -> None:
    _, codes = enrolled()
    assert len(codes) == 10
    for expected in (True, False):
        client, _ = given_password()
        client.post("/second-factor/code/", {"code": codes[0]})
        assert is_in(client) is expected


def test_who_has_none_logs_in_by_password_alone() -> None:
    enrolled("root")
    client, answer = given_password()
    assert answer.headers["Location"] == "/" and is_in(client)


def test_the_admin_asks_for_the_code_too() -> None:
    secret, _ = enrolled("root")
    client = Client()
    answer = client.get("/admin/runs/run/", follow=True)
    assert unquote(answer.redirect_chain[-1][0]) == "/login/?next=/admin/runs/run/"
    # The admin's form does not bypass the code.
    client.post("/admin/login/", {"username": "root", "password": PASSWORD, "next": "/admin/"})
    assert client.get("/admin/").status_code == 302
    client.post("/login/", {"username": "root", "password": PASSWORD, "next": "/admin/"})
    assert client.get("/admin/").status_code == 302
    assert client.post("/second-factor/code/", {"code": code_of(secret)}).headers["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_who_is_not_of_the_staff_is_told_so_and_not_sent_in_circles() -> None:
    client, _ = given_password()
    assert client.get("/admin/", follow=True).status_code == 403


def test_wrong_codes_lock_the_account_as_wrong_passwords_do(settings: Any) -> None:
    secret, codes = enrolled()
    client, _ = given_password()
    answers = [client.post("/second-factor/code/", {"code": f"{n:06}"}) for n in range(settings.AXES_FAILURE_LIMIT)]
    assert [answer.status_code for answer in answers] == [200] * (settings.AXES_FAILURE_LIMIT - 1) + [429]
    assert client.post("/second-factor/code/", {"code": code_of(secret)}).status_code == 429
    assert client.post("/second-factor/code/", {"code": codes[0]}).status_code == 429
    assert given_password()[1].status_code == 429
    assert not is_in(client)


def test_the_code_page_is_for_those_whose_password_was_right() -> None:
    assert Client().get("/second-factor/code/").headers["Location"] == "/second-factor/log-in/"
    assert Client().get("/second-factor/").headers["Location"].startswith("/login/")


def test_tokens_go_on() -> None:
    project = Project.objects.create(name="Lab", slug="lab")
    ada = User.objects.get(username="ada")
    Membership.objects.create(project=project, user=ada, role="operator")
    _, value = create_token(ada, project, "view", name="script")
    enrolled()
    assert Client(headers={"authorization": f"Bearer {value}"}).get("/api/runs/").status_code == 200


def test_it_is_removed_by_who_has_confirmed_who_they_are() -> None:
    secret, _ = enrolled()
    client, _ = given_password()
    client.post("/second-factor/code/", {"code": code_of(secret)})
    client.post("/second-factor/app/remove/")
    assert Authenticator.objects.exists()
    # The portal does the requested action after the confirmation.
    done = client.post("/second-factor/confirm/?next=/second-factor/app/remove/", {"password": PASSWORD})
    assert done.headers["Location"] == "/second-factor/"
    assert not Authenticator.objects.exists()
    assert given_password()[1].headers["Location"] == "/"


def test_an_administrator_takes_it_from_who_lost_the_phone(capsys: Any) -> None:
    enrolled()
    call_command("reset_second_factor", "ada")
    assert "ada now logs in by password only" in capsys.readouterr().out
    assert is_in(given_password()[0])
    with pytest.raises(CommandError, match="there is no user 'eve'"):
        call_command("reset_second_factor", "eve")


def test_keys_of_apps_are_sealed_in_the_database() -> None:
    secret, codes = enrolled()
    stored = str(list(Authenticator.objects.values()))
    assert secret not in stored


def test_switched_off_nobody_is_asked_and_there_are_no_pages(settings: Any) -> None:
    enrolled()
    settings.STEERSMAN_SECOND_FACTOR = ()
    client, answer = given_password()
    assert answer.headers["Location"] == "/" and is_in(client)
    assert client.get("/second-factor/").status_code == 404
    assert b"second-factor" not in client.get("/").content
    assert Client().get("/admin/login/").status_code == 200


def test_a_wrong_setting_is_named() -> None:
    assert (second_factor("off"), second_factor(""), second_factor("TOTP")) == ((), (), ("totp",))
    with pytest.raises(ImproperlyConfigured, match="is 'sms': set it to 'off', 'totp', 'webauthn' or 'totp,webauthn'"):
        second_factor("sms")


def test_no_english_is_left_on_its_pages() -> None:
    secret, _ = enrolled()
    client = Client(headers={"accept-language": "zh-CN"})
    client.post("/login/", {"username": "ada", "password": PASSWORD})

    def english(path: str) -> list[str]:
        page = client.get(f"/second-factor/{path}")
        assert page.status_code == 200, path
        return english_of(page.content.decode().replace(secret, ""))

    assert english("code/") == []
    refused = client.post("/second-factor/code/", {"code": "000000"}).content.decode()
    assert "验证码有误" in refused and english_of(refused) == []
    client.post("/second-factor/code/", {"code": code_of(secret)})
    client.post("/second-factor/confirm/", {"password": PASSWORD})
    pages = ("", "confirm/", "confirm/code/", "recovery/", "recovery/new/", "app/remove/")
    assert [line for path in pages for line in english(path)] == []
    assert set(english_of(client.get("/").content.decode())) == {"ada"}
    Authenticator.objects.all().delete()
    page = client.get("/second-factor/app/").content.decode()
    assert [line for line in english_of(page) if not re.fullmatch("[A-Z2-7]+", line)] == []
