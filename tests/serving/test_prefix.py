"""STEERSMAN_PREFIX, and the response to requests for an address that is not the portal's."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

from monitor_site.prefix import prefix_of, under_prefix


@pytest.mark.parametrize(
    ("given", "prefix"), [("", ""), ("/", ""), ("/steersman", "/steersman"), ("/lab/steersman/", "/lab/steersman")]
)
def test_a_prefix_has_no_slash_at_its_end(given: str, prefix: str) -> None:
    assert prefix_of(given) == prefix


@pytest.mark.parametrize("given", ["steersman", "/a//b", "/a b", "https://lab/steersman", "/runs", "/api/x", "/ws"])
def test_what_is_no_prefix_is_refused_with_what_to_do(given: str) -> None:
    with pytest.raises(ValueError, match="such as /steersman"):
        prefix_of(given)


@pytest.mark.parametrize(
    ("prefix", "path", "told", "seen"),
    [
        ("", "/runs/1/", "/evil", ("", "/runs/1/")),
        ("/lab", "/runs/1/", "", ("/lab", "/lab/runs/1/")),
        ("/lab", "/lab/runs/1/", "", ("/lab", "/lab/runs/1/")),
        ("/lab", "/labour/", "/evil", ("/lab", "/lab/labour/")),
        ("/lab", "/lab", "", ("/lab", "/lab")),
    ],
)
def test_the_setting_alone_decides(prefix: str, path: str, told: str, seen: tuple[str, str]) -> None:
    scopes: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scopes.append(scope)

    async_to_sync(under_prefix(application, prefix))({"type": "websocket", "path": path, "root_path": told}, None, None)
    assert [(scope["root_path"], scope["path"]) for scope in scopes] == [seen]


def test_a_foreign_host_is_told_the_setting(settings: Any) -> None:
    answer = Client(headers={"host": "192.0.2.9:8765"}).get("/login/")
    assert answer.status_code == 400
    assert "STEERSMAN_HOSTS=192.0.2.9:8765,localhost" not in answer.content.decode()
    assert "STEERSMAN_HOSTS=192.0.2.9,localhost" in answer.content.decode()
    hostile = Client(headers={"host": "<script>alert(1)</script>"}).get("/login/")
    assert hostile.status_code == 400 and "<script>alert" not in hostile.content.decode()


def test_a_form_from_behind_tls_is_told_the_setting(db: None) -> None:
    client = Client(enforce_csrf_checks=True, headers={"origin": "https://lab.example.org"})
    answer = client.post("/login/", {"username": "a", "password": "b"})
    assert answer.status_code == 403
    assert "STEERSMAN_ORIGINS=https://lab.example.org" in answer.content.decode()
    stale = Client(enforce_csrf_checks=True).post("/login/", {"username": "a", "password": "b"})
    assert stale.status_code == 403 and "STEERSMAN" not in stale.content.decode().replace("Steersman", "")
