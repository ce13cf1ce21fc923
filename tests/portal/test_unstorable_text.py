"""NUL and unpaired surrogates in every text input cause a clear message and no failure.

PostgreSQL refuses them, in searches too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urljoin

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DataError, connection, transaction
from django.test import Client

from runs.protocol.storable_text import UNSTORABLE
from tests.portal.page_forms import TYPED, PageForm, forms_of
from tests.portal.test_chinese import ADMIN, PORTAL

HERE = "http://testserver"
NUL, HALF = "a\0b", "a\udcffb"
PAGES = {
    "": ("/login/", "/invite/{invite}/", "{pause_link}"),
    "owner": PORTAL["owner"],
    "admin": tuple(
        f"/admin/{page}"
        for page in (
            *ADMIN, "runs/project/add/", "runs/membership/add/", "runs/accesstoken/add/", "auth/user/add/",
            "auth/group/add/", "auth/user/1/change/",
        )
    ),
}  # fmt: skip
# The messages of Django, of the portal's forms, and of fields for a time or JSON.
SAYS_SO = (
    "Null characters are not allowed",
    "NUL",
    "Enter a valid",
    "errorlist",
    "invalid-feedback",
    "is-invalid",
    "is not a mail address",
    "contains an invalid character",
)


def client_of(name: str) -> Client:
    client = Client(headers={"accept-language": "en"})
    if name:
        client.force_login(User.objects.get(username=name))
    return client


def as_postgresql(execute: Callable[..., Any], sql: str, given: Any, many: bool, context: Any) -> Any:
    """Refuse what PostgreSQL refuses, so that the test finds it on SQLite too."""
    texts = [text for text in (given if isinstance(given, (list, tuple)) else ()) if isinstance(text, str)]
    if any(UNSTORABLE.search(text) for text in texts):
        raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    return execute(sql, given, many, context)


@pytest.fixture(autouse=True)
def strict(places: dict[str, Any]) -> Iterator[None]:
    with connection.execute_wrapper(as_postgresql):
        yield


@pytest.mark.parametrize("name", PAGES)
def test_every_field_of_every_form(places: dict[str, Any], name: str) -> None:
    client = client_of(name)
    tried: set[tuple[str, str]] = set()
    failed, silent = [], []
    for page in PAGES[name]:
        address = page.format(**places)
        for form in forms_of(client.get(address).text):
            target = urljoin(HERE + address, form.action).removeprefix(HERE)
            target = target.split("?")[0] if form.method == "get" else target
            if form.method not in ("get", "post") or "logout" in target or "setlang" in target:
                continue
            # This field switches to the form of another recipe, without reading the other fields.
            form.fields.pop("switch", None)
            for field, kind in form.kinds.items():
                if (target, field) in tried or field == "csrfmiddlewaretoken":
                    continue
                tried.add((target, field))
                with transaction.atomic():
                    answer = sent(client, form, target, form.fields | {field: form.fields.get(field, "") + NUL})
                    transaction.set_rollback(True)
                if answer is None:
                    failed.append((target, field))
                elif kind in TYPED and answer.status_code != 302 and not any(text in answer.text for text in SAYS_SO):
                    silent.append((target, field, answer.status_code))
    assert len(tried) > 3 and (failed, silent) == ([], [])


def sent(client: Client, form: PageForm, target: str, given: dict[str, str]) -> Any:
    """Return the response to a form, or None if the server failed."""
    try:
        with transaction.atomic():
            return client.get(target, given) if form.method == "get" else client.post(target, given)
    except (DataError, ValueError):
        return None


@pytest.mark.parametrize(
    "address",
    [
        "/?q={}", "/?state={}", "/?{}=1", "/runs/compare/?run={}", "/runs/new/?clone={}", "/runs/1/rules/?run={}",
        "/projects/pages/rules/edit/?detector=spike&series={}", "/login/?next={}", "/admin/runs/run/?q={}",
        "/admin/runs/run/?state__exact={}", "/admin/runs/run/?project__id__exact={}", "/admin/auth/user/?q={}",
        "/admin/autocomplete/?app_label=runs&model_name=run&field_name=project&term={}",
    ],
)  # fmt: skip
def test_an_address_with_nul(places: dict[str, Any], address: str) -> None:
    answer = client_of("admin").get(address.format(quote(NUL)))
    assert answer.status_code == 400 and "contains the NUL character" in answer.text
    # A wrong password is recorded with the query and the user agent.
    posted = Client().post(address.format(quote(NUL)), {"username": "owner", "password": "wrong"})
    assert posted.status_code == 400


@pytest.mark.parametrize(
    "address", ["/share/{}/", "/invite/{}/", "/alerts/act/{}/", "/projects/{}/rules/", "/runs/{}/"]
)
def test_an_address_that_names_nothing(places: dict[str, Any], address: str) -> None:
    for text in (quote(NUL), "%ED%A0%80"):
        assert client_of("owner").get(address.format(text)).status_code == 404


def test_the_program_of_a_wrong_password(places: dict[str, Any]) -> None:
    wrong = {"username": "owner", "password": "wrong"}
    assert Client(headers={"user-agent": NUL}).post("/login/", wrong).status_code == 400


BODIES = [
    ("queue", {"host": NUL}),
    ("queue", {"host": "\ud800"}),
    ("commands", {"command": NUL}),
    ("commands", {"command": "note", "arguments": {"text": NUL}}),
    ("commands", {"command": "note", "arguments": {"text": "\ud800"}}),
    ("commands", {"command": "note", "arguments": {NUL: "x"}}),
    ("commands", {"command": "note", "arguments": {"text": "x"}, "reason": NUL}),
    ("commands", {"command": "note", "arguments": {"text": "x"}, "reason": "\ud800"}),
    ("commands", {"command": "set_knob", "arguments": {"name": "\ud800", "value": 1}}),
    ("commands", {"command": "set_knob", "arguments": {"name": "rate", "value": NUL}}),
    ("commands", {"command": "pause", "expect": {"state": NUL}}),
]


@pytest.mark.parametrize(("end", "body"), BODIES)
def test_a_body_of_the_api(places: dict[str, Any], end: str, body: dict[str, Any]) -> None:
    run = places["bare"] if end == "queue" else places["live"]
    answer = client_of("owner").post(f"/api/runs/{run}/{end}/", json.dumps(body), content_type="application/json")
    assert 400 <= answer.status_code < 500 and answer.json()["error"]


@pytest.mark.parametrize(
    "words",
    [
        ("create_run", "--recipe", "mnist", "--project", HALF),
        ("create_run", "--recipe", "mnist", "--create-project", "--project", HALF),
        ("create_run", "--recipe", "mnist", "--project", "pages", "--name", HALF),
        ("create_run", "--recipe", "mnist", "--project", "pages", "--user", HALF),
        ("create_run", "--recipe", "mnist", "--project", "pages", "--queue", "--host", HALF),
        ("create_token", "--scope", "view", "--user", "owner", "--project", HALF),
        ("create_token", "--scope", "view", "--project", "pages", "--user", HALF),
        ("create_token", "--scope", "view", "--project", "pages", "--user", "owner", "--name", HALF),
        ("invite", "--project", HALF),
        ("invite", "--project", "pages", "--user", HALF),
        ("command", "LIVE", "pause", "--user", HALF),
        ("command", "LIVE", "pause", "--reason", HALF),
    ],
)
def test_an_option_that_is_no_text(places: dict[str, Any], words: tuple[str, ...]) -> None:
    option = next(word for word, value in zip(words, words[1:], strict=False) if value == HALF)
    with pytest.raises(CommandError, match=option):
        call_command(*(str(places["live"]) if word == "LIVE" else word for word in words))
