"""The translations for scripts: kept by browsers at the address of their content, compressed, and never outdated."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.utils.translation import trans_real

from runs.portal import texts

pytestmark = pytest.mark.django_db
KEPT = "public, max-age=31536000, immutable"
ZIPPED = {"accept-encoding": "br, gzip"}


def address_of(client: Client, language: str = "en") -> str:
    page = client.get("/login/", headers={"accept-language": language}).content.decode()
    found = re.findall(r'<script src="([^"]*/texts/[^"]+)" defer>', page)
    assert len(found) == 1
    return str(found[0])


def test_each_language_has_an_address_with_the_digest_of_its_content(client: Client) -> None:
    english, chinese = address_of(client), address_of(client, "zh-CN")
    assert re.fullmatch(r"/texts/en/[0-9a-f]{16}\.js", english)
    assert re.fullmatch(r"/texts/zh-hans/[0-9a-f]{16}\.js", chinese)
    # The address, and not the browser, chooses the language.
    answer = client.get(chinese, headers={"accept-language": "en"})
    # The scripts have it in ASCII.
    text = json.dumps("验证损失").strip('"').encode()
    assert text in answer.content and answer.headers["Content-Language"] == "zh-hans"
    assert text not in client.get(english, headers={"accept-language": "zh-CN"}).content


def test_a_browser_keeps_them_and_gets_them_compressed(client: Client) -> None:
    address = address_of(client, "zh-CN")
    plain, packed = client.get(address), client.get(address, headers=ZIPPED)
    assert plain.headers["Cache-Control"] == packed.headers["Cache-Control"] == KEPT
    assert plain.headers["Content-Type"] == 'text/javascript; charset="utf-8"'
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.content) == plain.content and len(packed.content) < len(plain.content) / 2
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers["Vary"] and "Cookie" not in answer.headers["Vary"]
        assert not answer.cookies


@pytest.mark.parametrize("address", ["/texts.js", "/texts/en/0123456789abcdef.js"])
def test_pages_of_another_version_get_the_current_ones_and_ask_each_time(client: Client, address: str) -> None:
    answer = client.get(address)
    assert answer.content == client.get(address_of(client)).content
    assert answer.headers["Cache-Control"] == "no-cache"
    unchanged = client.get(address, headers={"if-none-match": answer.headers["ETag"]})
    assert unchanged.status_code == 304 and not unchanged.content


def test_a_language_that_is_not_offered_is_not_found(client: Client) -> None:
    assert client.get("/texts/de/0123456789abcdef.js").status_code == 404


def test_other_translations_get_another_address(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed(trans_real.DjangoTranslation):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._catalog["Pause"] = "Another"

    before = address_of(client, "zh-CN")
    monkeypatch.setattr("django.views.i18n.DjangoTranslation", Changed)
    assert address_of(client, "zh-CN") == before
    # A process that starts with other translations, or the development server.
    texts._built_once.cache_clear()
    try:
        after = address_of(client, "zh-CN")
        assert after != before and b"Another" in client.get(after).content
    finally:
        texts._built_once.cache_clear()


def test_the_development_server_reads_them_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    before = address_of(client, "zh-CN")
    settings.DEBUG = True
    monkeypatch.setattr(texts.JavaScriptCatalog, "get_plural", lambda self: "n + 1")
    assert address_of(client, "zh-CN") != before
