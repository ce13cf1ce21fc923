"""A hundred unknown tokens per address are looked up; valid tokens always are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runs.access import guesses
from runs.access.tokens import create_token, revoke
from runs.models import AccessToken, Membership, Project, Run


@pytest.fixture
def made(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[AccessToken, str]]:
    """A valid token and an empty cache; the clock stands still."""
    project = Project.objects.create(name="Lab", slug="lab")
    user = User.objects.create_user("ada")
    Membership.objects.create(project=project, user=user, role="owner")
    Run.objects.create(project=project, name="one")
    monkeypatch.setattr(guesses, "GUESSES_PER_S", 0.0)
    fresh = guesses.Lookups()
    for module in ("runs.api.callers", "runs.portal.share"):
        monkeypatch.setattr(f"{module}.lookups", fresh)
    yield create_token(user, project, "view", name="script")


def ask(value: str, address: str = "192.0.2.7") -> Any:
    return Client(REMOTE_ADDR=address).get("/api/runs/", headers={"Authorization": f"Bearer {value}"})


def test_guesses_are_refused_and_good_tokens_go_on(made: tuple[AccessToken, str]) -> None:
    good = made[1]
    assert ask(good).status_code == 200
    answers = [ask(f"stm_{number}").status_code for number in range(guesses.GUESSES_BURST)]
    assert set(answers) == {401}
    refused = ask("stm_one_more")
    assert refused.status_code == 429 and refused.headers["Retry-After"] == "60"
    assert refused.json()["field"] == "Authorization"
    assert Client(REMOTE_ADDR="192.0.2.7").get("/share/stm_other/").status_code == 429
    assert ask(good).status_code == 200
    assert ask("stm_one_more", address="198.51.100.9").status_code == 401


def test_a_refused_address_asks_the_database_nothing(
    made: tuple[AccessToken, str], django_assert_num_queries: Any
) -> None:
    for number in range(guesses.GUESSES_BURST):
        ask(f"stm_{number}")
    with django_assert_num_queries(0):
        assert ask("stm_one_more").status_code == 429


def test_a_token_that_was_revoked_is_no_guess(made: tuple[AccessToken, str]) -> None:
    token, value = made
    revoke(token)
    assert {ask(value).status_code for _ in range(guesses.GUESSES_BURST + 1)} == {401}


def test_it_remembers_a_bounded_number(made: tuple[AccessToken, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MOST_REMEMBERED", 1)
    found = guesses.Lookups()
    token, value = made
    other = create_token(token.created_by, token.project, "view", name="other")[1]
    for each in (value, other):
        assert found.find(each, ["view"], "192.0.2.7") is not None
    assert len(found._found) == 1
