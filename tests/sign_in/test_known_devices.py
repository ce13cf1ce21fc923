"""A stranger's guesses lock an account, but not the browsers in which its owner logged in before."""

from __future__ import annotations

from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client

from runs.access.logins import ADDRESS_FACTOR
from runs.sign_in.known_devices import COOKIE, MOST_ACCOUNTS

PASSWORD = "a long and quiet river"
HOME, ELSEWHERE = "192.0.2.7", "198.51.100.9"


@pytest.fixture(autouse=True)
def people(db: None, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for name in ("ada", "bob"):
        User.objects.create_superuser(name, password=PASSWORD)


def log_in(client: Client, password: str = PASSWORD, name: str = "ada", path: str = "/login/") -> int:
    return client.post(path, {"username": name, "password": password}).status_code


def known_to(*names: str) -> Client:
    """Return a browser in which these people logged in and out."""
    client = Client(REMOTE_ADDR=HOME)
    for name in names:
        assert log_in(client, name=name) == 302
        client.post("/logout/")
    return client


def guess(times: int, client: Client | None = None, name: str = "ada") -> list[int]:
    """Guess `times` passwords, each in a new browser if none is given."""
    return [log_in(client or Client(REMOTE_ADDR=ELSEWHERE), f"wrong {number}", name) for number in range(times)]


@pytest.mark.parametrize("path", ["/login/", "/admin/login/"])
def test_a_stranger_locks_no_browser_in_which_one_logged_in(settings: Any, path: str) -> None:
    own = known_to("ada")
    assert guess(settings.AXES_FAILURE_LIMIT)[-1] == 429
    assert log_in(Client(REMOTE_ADDR=HOME), path=path) == 429
    assert log_in(own, path=path) == 302
    # The page that changes the password is not locked either.
    new = "another long river"
    typed = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert own.post("/password/", typed).status_code == 302


def test_nor_if_the_address_is_the_same(settings: Any) -> None:
    own = known_to("ada")
    for number in range(settings.AXES_FAILURE_LIMIT * ADDRESS_FACTOR):
        log_in(Client(REMOTE_ADDR=HOME), "wrong", f"nobody {number}")
    assert log_in(Client(REMOTE_ADDR=HOME)) == 429
    assert log_in(own) == 302


def test_a_known_device_is_locked_by_its_own_guesses_and_locks_the_account_too(settings: Any) -> None:
    own, other = known_to("ada"), known_to("ada")
    limit = settings.AXES_FAILURE_LIMIT
    assert guess(limit, own) == [200] * (limit - 1) + [429]
    assert log_in(own) == 429
    assert log_in(Client(REMOTE_ADDR=ELSEWHERE)) == 429
    assert log_in(other) == 302


def test_a_device_is_known_to_the_accounts_that_logged_in_alone(settings: Any) -> None:
    shared, of_bob = known_to("bob", "ada"), known_to("bob")
    assert guess(settings.AXES_FAILURE_LIMIT)[-1] == 429 and log_in(shared) == 302
    assert guess(settings.AXES_FAILURE_LIMIT, name="bob")[-1] == 429 and log_in(shared, name="bob") == 302
    assert guess(1, of_bob) == [429] and log_in(of_bob) == 429


def test_a_cookie_that_was_made_up_or_is_old_is_none(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = known_to("ada")
    signed = own.cookies[COOKIE].value
    assert guess(settings.AXES_FAILURE_LIMIT)[-1] == 429
    for value in ("", "W10:1:x", f"{signed}x"):
        client = Client(REMOTE_ADDR=HOME)
        client.cookies[COOKIE] = value
        assert log_in(client) == 429
    monkeypatch.setattr("runs.sign_in.known_devices.LASTS_S", -1)
    assert log_in(own) == 429


def test_who_names_a_known_device_as_user_agent_is_counted(settings: Any) -> None:
    """The mark of a device is in the list of wrong passwords, so it is not secret."""
    guess(1, known_to("ada"))
    agent = AccessAttempt.objects.get().user_agent
    assert "known device" in agent
    limit = settings.AXES_FAILURE_LIMIT
    stranger = Client(REMOTE_ADDR=ELSEWHERE, headers={"user-agent": agent})
    assert guess(limit - 1, stranger)[-1] == 429 and log_in(stranger) == 429


def test_the_cookie_is_kept_from_scripts_and_holds_the_newest_accounts() -> None:
    for number in range(MOST_ACCOUNTS):
        User.objects.create_user(f"{number}" * 150, password=PASSWORD)
    client = known_to("ada", *(f"{number}" * 150 for number in range(MOST_ACCOUNTS)))
    cookie = client.cookies[COOKIE]
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and cookie["max-age"] == 180 * 86_400
    assert len(cookie.value) < 3_000 and PASSWORD not in cookie.value
    assert client.get("/login/").cookies.get(COOKIE) is None
