"""Secrets from files, and passwords inserted into addresses."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from monitor_site.environment.files import Environment, with_password


def test_a_file_stands_for_the_value_without_its_last_newline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p w\n")
    monkeypatch.setenv("STEERSMAN_ONE", "plain\n")
    monkeypatch.setenv("STEERSMAN_OTHER_FILE", str(secret))
    env = Environment()
    assert env("STEERSMAN_OTHER") == "p w"
    assert env("STEERSMAN_ONE") == "plain\n"
    assert env("STEERSMAN_THIRD", default="none") == "none"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_MISSING_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(ImproperlyConfigured, match=r"STEERSMAN_MISSING_FILE: .*nowhere.* or set STEERSMAN_MISSING\."):
        Environment()("STEERSMAN_MISSING", default="")


@pytest.mark.parametrize(
    ("address", "password", "whole"),
    [
        ("redis://redis:6379/0", "", "redis://redis:6379/0"),
        ("redis://redis:6379/0", "a/b#c@d:%", "redis://:a%2Fb%23c%40d%3A%25@redis:6379/0"),
        ("rediss://me:old@[::1]:6379/0", "new", "rediss://me:new@[::1]:6379/0"),
    ],
)
def test_a_password_is_put_into_an_address(address: str, password: str, whole: str) -> None:
    assert with_password(address, password) == whole


def test_a_password_needs_a_server() -> None:
    with pytest.raises(ValueError, match="the address has no host"):
        with_password("unix:///run/redis.sock", "secret")
