"""Passkeys: a signature for another page, person, moment or portal is invalid, and garbage is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from monitor_site.environment.sign_in import passkey_login, second_factor
from runs.models import AuditEntry
from tests.portal.test_chinese import english_of
from tests.sign_in.software_key import PRESENT, SoftwareKey

PASSWORD = "a long and quiet river"
HOST = "localhost"
ORIGIN = "http://localhost"
LOGIN = "/second-factor/passkey/log-in/"
REFUSED = "/login/?passkey=refused&next="
Options = dict[str, Any]


@pytest.fixture(autouse=True)
def people(db: None, settings: Any) -> None:
    settings.STEERSMAN_SECOND_FACTOR = ("totp", "webauthn")
    settings.STEERSMAN_PASSKEY_LOGIN = True
    settings.MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
    settings.MFA_PASSKEY_LOGIN_ENABLED = True
    for name in ("ada", "eve"):
        User.objects.create_user(name, password=PASSWORD)


def visitor(**headers: str) -> Client:
    return Client(SERVER_NAME=HOST, headers=headers)


def given_password(name: str = "ada", **headers: str) -> Client:
    client = visitor(**headers)
    client.post("/login/", {"username": name, "password": PASSWORD})
    return client


def options_on(page: Any) -> Options:
    found = re.search(r'id="passkey-options" type="application/json">(.*?)</script>', page.content.decode(), re.S)
    assert found is not None, page.content.decode()
    options: Options = json.loads(found[1])
    return options


def login_options(client: Client) -> Options:
    options: Options = client.get(LOGIN, headers={"accept": "application/json"}).json()["request_options"]
    return options


def sent(client: Client, path: str, credential: Any, **more: str) -> Any:
    return client.post(path, {"credential": json.dumps(credential), **more})


def added(name: str = "ada", key: SoftwareKey | None = None, **changed: Any) -> tuple[SoftwareKey, Client, Any]:
    """Add a passkey on the pages, as its owner would."""
    key = key or SoftwareKey(HOST, ORIGIN)
    client = given_password(name)
    client.post("/second-factor/confirm/?next=/second-factor/", {"password": PASSWORD})
    options = options_on(client.get("/second-factor/passkey/"))
    return key, client, sent(client, "/second-factor/passkey/", key.register(options, **changed), name="key")


def who(client: Client) -> str | None:
    number = client.session.get("_auth_user_id")
    return User.objects.get(pk=number).username if number else None


@pytest.mark.parametrize("number", [None, 4711])
def test_it_logs_in_alone_and_beside_the_password(number: int | None) -> None:
    """This includes accounts with large numbers, which django-allauth writes in another base."""
    if number is not None:
        User.objects.create_user("zoe", password=PASSWORD, pk=number)
    name = "ada" if number is None else "zoe"
    key, _, answer = added(name)
    assert answer.headers["Location"] == "/second-factor/recovery/"
    alone = visitor()
    assert sent(alone, LOGIN, key.sign(login_options(alone))).headers["Location"] == "/" and who(alone) == name
    beside = given_password(name)
    assert who(beside) is None
    page = beside.get("/second-factor/code/")
    assert sent(beside, "/second-factor/code/", key.sign(options_on(page))).status_code == 302 and who(beside) == name
    details = AuditEntry.objects.filter(kind="login").order_by("id").values_list("detail", flat=True)
    assert list(details) == ["password", "webauthn", "password, webauthn"]
    assert AuditEntry.objects.get(kind="factor_added", what="webauthn").person_name == name


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "http://localhost:9000"}, {"origin": "https://localhost"}, {"origin": "http://evil.localhost"},
        {"origin": "https://example.org"}, {"type": "webauthn.create"}, {"challenge": "AAAA"}, {"crossOrigin": True},
        {"flags": PRESENT}, {"flags": 0}, {"handle": "AAAA"}, {"handle": None}, {"handle": 7},
    ],
    ids=str,
)  # fmt: skip
def test_what_was_signed_for_another_page_logs_nobody_in(changed: dict[str, Any]) -> None:
    key, _, _ = added()
    client = visitor()
    assert sent(client, LOGIN, key.sign(login_options(client), **changed)).headers["Location"] == REFUSED
    assert who(client) is None


def test_the_handle_of_another_account_leads_nowhere() -> None:
    adas, _, _ = added("ada")
    eves, _, _ = added("eve")
    client = visitor()
    sent(client, LOGIN, eves.sign(login_options(client), handle=adas.handle))
    assert who(client) is None
    half = given_password("ada")
    sent(half, "/second-factor/code/", eves.sign(options_on(half.get("/second-factor/code/"))))
    assert who(half) is None


def test_what_was_signed_holds_once_and_in_its_session() -> None:
    key, _, _ = added()
    client = visitor()
    signed = key.sign(login_options(client))
    assert sent(client, LOGIN, signed).headers["Location"] == "/"
    thief = visitor()
    login_options(thief)
    assert sent(thief, LOGIN, signed).headers["Location"] == REFUSED
    assert sent(visitor(), LOGIN, signed).headers["Location"] == REFUSED
    client.post("/logout/")
    assert sent(client, LOGIN, signed).headers["Location"] == REFUSED


def test_who_is_deactivated_stays_out() -> None:
    key, _, _ = added()
    User.objects.filter(username="ada").update(is_active=False)
    client = visitor()
    assert sent(client, LOGIN, key.sign(login_options(client))).headers["Location"] == "/login/"
    assert who(client) is None


GARBAGE: list[Any] = [
    None, 1, "x", [], {}, {"response": None}, {"id": 1, "rawId": 1, "response": {}},
    {"id": "AAAA", "rawId": "AAAA", "type": "public-key", "response": {"userHandle": "MQ", "clientDataJSON": "AAAA",
     "authenticatorData": "AAAA", "signature": "AAAA", "attestationObject": "AAAA"}},
    {"id": "\x00\ud800", "rawId": "!", "response": {"clientDataJSON": "e30", "attestationObject": "n" * 99_999}},
    {"id": "AAAA", "rawId": "AAAA", "response": {"clientDataJSON": "e30", "attestationObject": "gYGB" * 3000}},
    {"response": {"userHandle": "eHh4LTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"}},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_garbage_is_refused_on_every_page(number: int) -> None:
    credential = GARBAGE[number]
    client = visitor()
    login_options(client)
    assert sent(client, LOGIN, credential).headers["Location"] == REFUSED
    key, mine, _ = added()
    mine.get("/second-factor/passkey/")
    for path in ("/second-factor/passkey/", "/second-factor/confirm/passkey/"):
        assert "is not valid here" in sent(mine, path, credential).content.decode()
    half = given_password()
    half.get("/second-factor/code/")
    assert "is not valid here" in sent(half, "/second-factor/code/", credential).content.decode()
    assert who(half) is None and Authenticator.objects.filter(type="webauthn").count() == 1


def test_a_key_that_did_not_ask_for_a_finger_or_pin_or_of_another_page_is_not_added() -> None:
    _, _, answer = added(flags=PRESENT)
    assert "is not valid here" in answer.content.decode()
    _, _, answer = added(origin="http://evil.localhost")
    assert "is not valid here" in answer.content.decode() and not Authenticator.objects.exists()


def test_beside_a_password_a_security_key_without_a_pin_is_enough(settings: Any) -> None:
    settings.STEERSMAN_PASSKEY_LOGIN = False
    key, _, answer = added(flags=PRESENT)
    assert answer.headers["Location"] == "/second-factor/recovery/"
    client = given_password()
    options = options_on(client.get("/second-factor/code/"))
    sent(client, "/second-factor/code/", key.sign(options, flags=PRESENT))
    assert who(client) == "ada"
    settings.STEERSMAN_PASSKEY_LOGIN = True
    alone = visitor()
    sent(alone, LOGIN, key.sign(login_options(alone), flags=PRESENT))
    assert who(alone) is None


def test_little_of_what_a_browser_sent_is_kept() -> None:
    client = given_password()
    client.post("/second-factor/confirm/?next=/second-factor/", {"password": PASSWORD})
    options = options_on(client.get("/second-factor/passkey/"))
    credential = SoftwareKey(HOST, ORIGIN).register(options) | {"more": "\x00" * 10_000}
    assert sent(client, "/second-factor/passkey/", credential, name="key").status_code == 302
    assert len(json.dumps(Authenticator.objects.get(type="webauthn").data)) < 2000


def test_signatures_that_do_not_hold_lock_as_wrong_passwords_do(settings: Any) -> None:
    adas, _, _ = added()
    other = SoftwareKey(HOST, ORIGIN)
    other.number, other.handle = adas.number, adas.handle
    client = given_password()
    for _ in range(settings.AXES_FAILURE_LIMIT):
        options = options_on(client.get("/second-factor/code/"))
        answer = sent(client, "/second-factor/code/", other.sign(options))
    assert answer.status_code == 429
    options = client.session["mfa.webauthn.state"]["challenge"]
    signed = adas.sign({"publicKey": {"challenge": options}})
    assert sent(client, "/second-factor/code/", signed).status_code == 429 and who(client) is None


def test_a_stranger_who_tries_passkeys_locks_their_address_and_no_account(settings: Any) -> None:
    key, _, _ = added()
    stranger = Client(SERVER_NAME=HOST, REMOTE_ADDR="192.0.2.9")
    for _ in range(settings.AXES_FAILURE_LIMIT):
        answer = sent(stranger, LOGIN, key.sign(login_options(stranger), flags=0))
    assert answer.status_code == 429
    elsewhere = Client(SERVER_NAME=HOST, REMOTE_ADDR="192.0.2.10")
    assert sent(elsewhere, LOGIN, key.sign(login_options(elsewhere))).headers["Location"] == "/"
    assert who(given_password("eve")) == "eve"


def test_it_holds_for_the_public_address_behind_a_proxy(settings: Any) -> None:
    settings.STEERSMAN_PUBLIC_URL = "https://steersman.example.org/lab"
    key = SoftwareKey("steersman.example.org", "https://steersman.example.org")
    _, _, answer = added(key=key)
    assert answer.headers["Location"] == "/second-factor/recovery/"
    client = visitor()
    options = login_options(client)
    assert options["publicKey"]["rpId"] == "steersman.example.org"
    assert sent(client, LOGIN, key.sign(options)).headers["Location"] == "/"
    # Browsers support no passkeys for an address with plain http.
    settings.STEERSMAN_PUBLIC_URL = "http://steersman.example.org"
    assert login_options(visitor())["publicKey"]["rpId"] == HOST


def test_two_portals_on_one_host_have_passkeys_of_their_own(settings: Any) -> None:
    """An authenticator keeps one passkey for each host and handle."""
    first, _, _ = added()
    settings.SECRET_KEY = "the key of another portal, and long enough"
    second, _, _ = added("eve")
    assert User.objects.get(username="ada").pk != User.objects.get(username="eve").pk
    Authenticator.objects.all().delete()
    third, _, _ = added("ada")
    assert len({first.handle, second.handle, third.handle}) == 3


def test_it_is_removed_by_its_owner_who_has_confirmed() -> None:
    key, _, _ = added()
    number = Authenticator.objects.get(type="webauthn").pk
    path = f"/second-factor/passkey/{number}/remove/"
    client = visitor()
    sent(client, LOGIN, key.sign(login_options(client)))
    assert client.post(path).headers["Location"].startswith("/second-factor/confirm/")
    eve = given_password("eve")
    eve.post(f"/second-factor/confirm/?next={path}", {"password": PASSWORD})
    assert eve.post(path).status_code == 404 and Authenticator.objects.filter(pk=number).exists()
    page = client.get("/second-factor/confirm/passkey/")
    # The portal does the requested action after the confirmation.
    done = sent(client, f"/second-factor/confirm/passkey/?next={path}", key.sign(options_on(page)))
    assert done.headers["Location"] == "/second-factor/"
    # Removing the last factor removes the recovery codes too.
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize(
    "to", ["https://evil.example.org/", "//evil.example.org", "/\\evil.example.org", "javascript:0"]
)
def test_a_login_leads_to_pages_of_the_portal_alone(to: str) -> None:
    key, _, _ = added()
    client = visitor()
    assert sent(client, LOGIN, key.sign(login_options(client)), next=to).headers["Location"] == "/"


def test_without_the_settings_there_is_none_of_it(settings: Any) -> None:
    key, _, _ = added()
    settings.STEERSMAN_PASSKEY_LOGIN = False
    assert visitor().get(LOGIN).status_code == 404 and b"passkey" not in visitor().get("/login/").content
    settings.STEERSMAN_SECOND_FACTOR = ("totp",)
    settings.MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
    client = given_password()
    assert who(client) == "ada" and client.get("/second-factor/passkey/").status_code == 404
    assert client.get("/second-factor/").status_code == 200


def test_wrong_settings_are_named() -> None:
    assert second_factor("webauthn, TOTP") == ("totp", "webauthn")
    assert (passkey_login(False, ()), passkey_login(True, ("webauthn",))) == (False, True)
    with pytest.raises(ImproperlyConfigured, match="STEERSMAN_PASSKEY_LOGIN is on, but passkeys are off"):
        passkey_login(True, ("totp",))


def test_no_english_is_left_on_its_pages() -> None:
    key, _, _ = added()
    client = given_password(**{"accept-language": "zh-CN"})
    assert english_of(client.get("/second-factor/code/").content.decode()) == []
    refused = sent(client, "/second-factor/code/", {}).content.decode()
    assert english_of(refused) == []
    sent(client, "/second-factor/code/", key.sign(options_on(client.get("/second-factor/code/"))))
    assert who(client) == "ada"
    client.post("/second-factor/confirm/", {"password": PASSWORD})
    number = Authenticator.objects.get(type="webauthn").pk
    for path in ("", "passkey/", f"passkey/{number}/remove/", "confirm/passkey/", "confirm/", "confirm/code/"):
        page = client.get(f"/second-factor/{path}")
        text = re.sub(r"localhost|\bkey\b", "", page.content.decode())
        assert {line for line in english_of(text) if line != "ada" and "PIN" not in line} == set(), path
    login = visitor(**{"accept-language": "zh-CN"}).get("/login/?passkey=refused").content.decode()
    assert english_of(login) == []
