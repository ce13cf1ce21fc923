"""Secrets appear in no log: the test sends keys of every kind to a real portal at its most verbose level."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.support.stack import Stack, rows, seed_stack

CANARY = "canary0123456789canary0123456789"
# The settings of the portal of this test.
SETTINGS = {
    "STEERSMAN_LOG_LEVEL": "DEBUG",
    "STEERSMAN_SECOND_FACTOR": "totp",
    "STEERSMAN_SECRET_KEY": f"key-{CANARY}",
    "STEERSMAN_EMAIL_URL": f"smtp://user:mail-{CANARY}@127.0.0.1:9",
    "STEERSMAN_OIDC_ISSUER": "http://127.0.0.1:9",
    "STEERSMAN_OIDC_CLIENT_ID": "steersman",
    "STEERSMAN_OIDC_CLIENT_SECRET": f"oidc-{CANARY}",
}


@pytest.fixture(scope="module")
def talkative() -> Iterator[Stack]:
    with Stack(**SETTINGS) as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        yield stack


class Browser:
    """Keeps cookies, and follows redirects."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def ask(self, path: str, form: dict[str, str] | None = None, **headers: str) -> int:
        body = urllib.parse.urlencode(form).encode() if form is not None else None
        request = urllib.request.Request(self.address + path, body, headers)
        try:
            with self._opener.open(request, timeout=60) as answer:
                answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    def post(self, path: str, form: dict[str, str]) -> int:
        """Send a form as its page does."""
        with self._opener.open(f"{self.address}/login/", timeout=60) as page:
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.read().decode())
        assert token is not None
        return self.ask(path, {**form, "csrfmiddlewaretoken": token[1]})


def shake_hands(stack: Stack, path: str, *protocols: str, **headers: str) -> None:
    address = stack.address.replace("http://", "ws://") + path
    with (
        pytest.raises((WebSocketException, TimeoutError)),
        connect(
            address, subprotocols=["steersman.v1", *protocols], additional_headers=headers, origin=stack.address
        ) as socket,  # type: ignore[arg-type]
    ):
        while True:
            socket.recv(timeout=60)


def test_no_key_is_in_what_the_portal_writes(talkative: Stack) -> None:
    stack, visitor = talkative, Browser(talkative.address)
    assert visitor.post("/login/", {"username": "operator", "password": f"wrong-{CANARY}"}) == 200
    # People type a password in the field of the name.
    assert visitor.post("/login/", {"username": f"name-{CANARY}", "password": "wrong"}) == 200
    for path in ("share", "invite", "alerts/act"):
        assert visitor.ask(f"/{path}/{CANARY}/") == 404, path
    assert visitor.ask("/api/runs/", Authorization=f"Bearer stm_{CANARY}") == 401
    assert visitor.ask(f"/api/runs/?token=stm_{CANARY}") == 401
    assert visitor.ask(f"/metrics?token={CANARY}", Authorization=f"Bearer {CANARY}") == 401
    assert visitor.ask(f"/sso/oidc/callback/?code={CANARY}&state={CANARY}") >= 400
    assert visitor.ask("/sso/oidc/login/") >= 400
    # An address with appended text.
    assert visitor.ask(f"/share/{CANARY}/{CANARY}") == 404
    shake_hands(stack, f"/ws/runs/1/?token=stm_{CANARY}")
    shake_hands(stack, f"/ws/runs/1/?token={CANARY}")
    shake_hands(stack, "/ws/runs/1/", f"ticket.{CANARY}")
    shake_hands(stack, "/ws/runs/1/", Authorization=f"Bearer stm_{CANARY}")
    stack.manage("check", "--deploy", check=False)
    stack.manage("send_alerts", "--help")
    doctor = stack.manage("doctor", check=False)

    written = {path.name: path.read_text(errors="replace") for path in stack.folder.rglob("*.log")}
    written["doctor"] = doctor.stdout + doctor.stderr
    audited = rows(stack, "SELECT * FROM runs_auditentry")
    # Both failed logins are in the audit, without the unknown name.
    assert len([row for row in audited if row["kind"] == "login_failed"]) == 2
    written["audit"] = "\n".join(map(str, audited))
    # The portal did log these requests, without the keys.
    assert "/share/…" in written["web.log"] and "/invite/…" in written["web.log"]
    found = [(name, line) for name, text in written.items() for line in text.splitlines() if CANARY in line]
    assert found == []
