"""The content of a link in a message, and which links are refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import signing

from runs.alerts.sending import links
from runs.alerts.sending.links import BadLink, ExpiredLink, LinkAction

DAY = timedelta(days=1)


def token_of(address: str) -> str:
    return address.rstrip("/").rpartition("/")[2]


@pytest.mark.parametrize("person_id", [7, None])
@pytest.mark.parametrize("base_url", ["https://train.example", "https://train.example/"])
def test_a_link_holds_what_it_asks(base_url: str, person_id: int | None) -> None:
    address = links.action_link(base_url, 12, "pause", person_id, 3, DAY)
    assert address.startswith("https://train.example/alerts/act/")
    link = links.read(token_of(address))
    assert (link.alert_id, link.action, link.person_id, link.destination_id) == (12, LinkAction.PAUSE, person_id, 3)


def test_an_action_that_no_link_does_is_refused() -> None:
    with pytest.raises(ValueError, match="delete"):
        links.action_link("https://train.example", 12, "delete", 7, 3, DAY)


def test_a_link_ends() -> None:
    with pytest.raises(ExpiredLink):
        links.read(token_of(links.action_link("https://train.example", 12, "stop", 7, 3, timedelta(seconds=-1))))


@pytest.mark.parametrize(
    "damage", [lambda t: t[1:], lambda t: t[:-1], lambda t: t + "a", lambda t: t * 9, lambda t: ""]
)
def test_a_link_that_was_changed_is_refused(damage: object) -> None:
    token = token_of(links.action_link("https://train.example", 12, "stop", 7, 3, DAY))
    assert callable(damage)
    with pytest.raises(BadLink):
        links.read(damage(token))


def test_what_was_signed_for_something_else_is_no_link() -> None:
    token = token_of(links.action_link("https://train.example", 12, "stop", 7, 3, DAY))
    held = signing.loads(token, salt=links.SALT)
    for other in (signing.dumps(held), signing.dumps(held, salt="other"), signing.dumps(held[1:], salt=links.SALT)):
        with pytest.raises(BadLink):
            links.read(other)
