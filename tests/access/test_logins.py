"""Wrong passwords lock the account and the address, at the login and in the admin, and no one else."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt, AccessLog
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.access.logins import ADDRESS_FACTOR, PasswordBackend

PASSWORD = "a long and quiet river"
LOGIN = "/login/"
HOME = "192.0.2.7"


@pytest.fixture(autouse=True)
def people(db: None, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_user("ada", password=PASSWORD)
    User.objects.create_superuser("root", password=PASSWORD)


def log_in(name: str, password: str, address: str = HOME, path: str = LOGIN, **headers: str) -> Any:
    form = {"username": name, "password": password}
    return Client(REMOTE_ADDR=address, headers=headers).post(path, form)


def guess(times: int, name: str = "ada", address: str = HOME, **given: str) -> list[int]:
    return [log_in(name, f"wrong {number}", address, **given).status_code for number in range(times)]


def test_ten_wrong_passwords_lock_the_account_from_wherever_they_came(settings: Any) -> None:
    limit = settings.AXES_FAILURE_LIMIT
    answers = [guess(1, address=f"192.0.2.{number}")[0] for number in range(limit)]
    assert answers == [200] * (limit - 1) + [429]
    refused = log_in("ada", PASSWORD, address="198.51.100.9")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "600"
    assert "locked for 10 minutes" in refused.content.decode()
    assert log_in("root", PASSWORD).status_code == 302


def test_what_is_kept_of_a_wrong_password_holds_no_password() -> None:
    client = Client(REMOTE_ADDR=HOME)
    client.force_login(User.objects.get(username="ada"))
    typed = {"old_password": "mistyped-old", "new_password1": "wanted-new-one", "new_password2": "wanted-new-one"}
    assert client.post("/password/", typed).status_code == 200
    guess(1, name="root")
    kept = list(AccessAttempt.objects.values())
    assert kept and not [word for word in ("mistyped", "wanted", "wrong 0") if word in str(kept)]


def test_the_admin_counts_too(settings: Any) -> None:
    guess(settings.AXES_FAILURE_LIMIT, name="root", path="/admin/login/")
    assert log_in("root", PASSWORD, path="/admin/login/").status_code == 429
    assert log_in("root", PASSWORD).status_code == 429


def test_an_address_is_locked_after_more_whatever_accounts_it_tried(settings: Any) -> None:
    limit = settings.AXES_FAILURE_LIMIT * ADDRESS_FACTOR
    answers = [guess(1, name=f"nobody {number}")[0] for number in range(limit)]
    assert answers == [200] * (limit - 1) + [429]
    assert log_in("ada", PASSWORD).status_code == 429
    assert log_in("ada", PASSWORD, address="198.51.100.9").status_code == 302


def test_a_forwarded_address_is_believed_behind_a_proxy_alone(settings: Any) -> None:
    limit = settings.AXES_FAILURE_LIMIT * ADDRESS_FACTOR
    for number in range(limit):
        log_in(f"nobody {number}", "wrong", **{"x-forwarded-for": f"203.0.113.{number}"})
    assert log_in("ada", PASSWORD).status_code == 429


def test_an_account_of_ones_own_takes_no_count_back(settings: Any) -> None:
    limit = settings.AXES_FAILURE_LIMIT
    assert guess(limit - 1)[-1] == 200
    assert log_in("root", PASSWORD).status_code == 302
    assert guess(1) == [429]


def test_who_guesses_on_neither_prolongs_the_lock_nor_writes(settings: Any) -> None:
    guess(settings.AXES_FAILURE_LIMIT)
    before = list(AccessAttempt.objects.values())
    assert set(guess(20)) == {429}
    assert list(AccessAttempt.objects.values()) == before
    AccessAttempt.objects.update(attempt_time=timezone.now() - settings.AXES_COOLOFF_TIME - timedelta(seconds=1))
    assert log_in("ada", PASSWORD).status_code == 302


def test_addresses_of_one_household_of_ipv6_are_one(settings: Any) -> None:
    limit = settings.AXES_FAILURE_LIMIT * ADDRESS_FACTOR
    for number in range(limit):
        guess(1, name=f"nobody {number}", address=f"2001:db8:0:7::{number:x}")
    assert log_in("ada", PASSWORD, address="2001:db8:0:7:ffff::1").status_code == 429
    assert log_in("ada", PASSWORD, address="2001:db8:0:8::1").status_code == 302


def test_no_password_is_stored_and_an_administrator_unlocks(settings: Any) -> None:
    guess(settings.AXES_FAILURE_LIMIT)
    assert "wrong 0" not in str(list(AccessAttempt.objects.values()))
    admin = Client()
    admin.force_login(User.objects.get(username="root"))
    page = admin.get("/admin/axes/accessattempt/")
    assert page.status_code == 200 and "ada" in page.content.decode()
    row = AccessAttempt.objects.get(username="ada")
    assert admin.post(f"/admin/axes/accessattempt/{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert log_in("ada", PASSWORD).status_code == 302
    assert AccessLog.objects.filter(username="ada").count() == 1
    assert admin.get("/admin/axes/accesslog/").status_code == 200


def test_one_password_is_hashed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, eight guessers blocked the pages by using all cores."""
    at_once: list[int] = []
    running = 0

    def hashed(*_: object, **__: object) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        # Concurrent calls would be counted above.
        for _ in range(100):
            os.sched_yield()
        running -= 1

    monkeypatch.setattr("django.contrib.auth.backends.ModelBackend.authenticate", hashed)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: PasswordBackend().authenticate(None, "ada", "wrong"), range(200)))
    assert set(at_once) == {1}


def test_a_guess_that_has_waited_for_its_turn_is_refused_if_others_were_wrong_meanwhile(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All concurrent requests had passed the lock before the first of them was counted."""

    class Turn:
        def __enter__(self) -> None:
            AccessAttempt.objects.update(failures_since_start=settings.AXES_FAILURE_LIMIT)

        def __exit__(self, *_: object) -> None: ...

    guess(1)
    monkeypatch.setattr(PasswordBackend, "_turn", Turn())
    assert log_in("ada", PASSWORD).status_code == 429


def test_the_page_that_changes_a_password_counts_wrong_ones_too(settings: Any) -> None:
    """Otherwise a person who finds a session open could try as many passwords as they like."""
    client = Client(REMOTE_ADDR=HOME)
    client.force_login(User.objects.get(username="ada"), "runs.access.logins.PasswordBackend")
    new = "another long river"

    def change(old: str) -> int:
        form = {"old_password": old, "new_password1": new, "new_password2": new}
        return client.post("/password/", form).status_code

    limit = settings.AXES_FAILURE_LIMIT
    assert [change(f"wrong {number}") for number in range(limit)] == [200] * (limit - 1) + [429]
    assert change(PASSWORD) == 429
    AccessAttempt.objects.all().delete()
    assert change(PASSWORD) == 302
    assert client.get("/admin/password_change/").headers["Location"] == "/password/"
    assert log_in("ada", new).status_code == 302
