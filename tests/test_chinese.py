"""Simplified Chinese: chosen by a form, kept in a cookie, and complete."""

from __future__ import annotations

import pytest
from django.test import Client

pytestmark = pytest.mark.django_db


def test_it_keeps_the_language_of_somebody_without_an_account(client: Client) -> None:
    assert '<html lang="en">' in client.get("/login/").content.decode()
    answer = client.post("/i18n/setlang/", {"language": "zh-hans", "next": "/login/"})
    assert answer.status_code == 302 and answer["Location"] == "/login/"
    cookie = answer.cookies["coxswain_language"]
    assert cookie.value == "zh-hans" and cookie["samesite"] == "Lax" and cookie["max-age"] == 31_536_000
    assert '<html lang="zh-hans">' in client.get("/login/").content.decode()
    assert '<html lang="zh-hans">' in client.get("/share/nothing/").content.decode()


def test_it_offers_the_other_language_in_its_own_name(client: Client) -> None:
    page = client.get("/login/").content.decode()
    assert 'value="zh-hans" lang="zh-hans"' in page and "简体中文" in page
    assert 'value="en"' not in page


def test_it_takes_the_language_that_the_browser_asks_for(client: Client) -> None:
    page = client.get("/login/", headers={"accept-language": "zh-CN,zh;q=0.9,en;q=0.5"}).content.decode()
    assert '<html lang="zh-hans">' in page
