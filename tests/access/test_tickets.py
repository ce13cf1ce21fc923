"""Tickets: signed, encrypted, used once, and not stored before that."""

from __future__ import annotations

import base64
import re
import string
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import timezone

from runs.access import tickets
from runs.access.grants import Grant
from runs.access.tickets import forget_expired_tickets, issue_ticket
from runs.models import Project, Run, UsedTicket
from tests.support.sockets import redeem_ticket

pytestmark = pytest.mark.django_db
SESSION = "q1w2e3r4t5z6u7i8o9p0a1s2d3f4g5h6"


@pytest.fixture
def run() -> Run:
    return Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada", password="a long and quiet river")


def test_it_costs_no_query_to_issue_and_one_to_redeem(run: Run, user: User, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        ticket = issue_ticket(user, run, SESSION)
    with django_assert_num_queries(1):
        grant = redeem_ticket(ticket, run.pk)
    assert grant == Grant(run.pk, user.pk, session_key=SESSION, auth_hash=user.get_session_auth_hash())


@pytest.mark.django_db(transaction=True)
def test_it_opens_once(run: Run, user: User) -> None:
    ticket = issue_ticket(user, run)
    assert redeem_ticket(ticket, run.pk) is not None
    assert redeem_ticket(ticket, run.pk) is None


def test_it_opens_its_own_run_alone_and_is_not_used_up_by_another(run: Run, user: User) -> None:
    ticket = issue_ticket(user, run)
    assert redeem_ticket(ticket, run.pk + 1) is None
    assert redeem_ticket(ticket, run.pk) is not None


def test_no_two_are_the_same(run: Run, user: User) -> None:
    assert issue_ticket(user, run, SESSION) != issue_ticket(user, run, SESSION)


def test_it_opens_nothing_once_a_character_is_changed(run: Run, user: User) -> None:
    ticket = issue_ticket(user, run, SESSION)
    for place, character in enumerate(ticket):
        other = "B" if character == "A" else "A"
        assert redeem_ticket(ticket[:place] + other + ticket[place + 1 :], run.pk) is None, place
    for longer in (ticket + "A", ticket + ".", "A" + ticket, ticket + "=", ticket + "\n", ticket[:-1], ""):
        assert redeem_ticket(longer, run.pk) is None, longer


def test_it_opens_nothing_once_it_has_expired(run: Run, user: User, monkeypatch: Any) -> None:
    ticket = issue_ticket(user, run)
    monkeypatch.setattr(tickets, "TICKET_LIFETIME", timedelta(seconds=-1))
    assert redeem_ticket(ticket, run.pk) is None


def test_it_tells_nobody_the_key_of_a_session(run: Run, user: User) -> None:
    """Scripts of the page have the ticket, and must not learn the session cookie, which they cannot read."""
    ticket = issue_ticket(user, run, SESSION)
    content = ticket.split(".")[0]
    opened = base64.urlsafe_b64decode(content + "=" * (-len(content) % 4))
    for secret in (SESSION, user.get_session_auth_hash()):
        assert secret not in ticket and secret.encode() not in opened


def test_it_may_be_offered_as_a_subprotocol(run: Run, user: User) -> None:
    """RFC 7230 defines the characters of a token."""
    allowed = re.escape(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
    assert re.fullmatch(f"[{allowed}]+", issue_ticket(user, run, SESSION))


def test_it_outlives_a_change_of_the_secret_key(run: Run, user: User, settings: Any) -> None:
    ticket = issue_ticket(user, run)
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        assert redeem_ticket(ticket, run.pk) is not None
    with override_settings(SECRET_KEY="another"):
        assert redeem_ticket(issue_ticket(user, run)[:-1], run.pk) is None and redeem_ticket(ticket, run.pk) is None


def test_a_portal_whose_clock_is_ahead_forgets_no_ticket_that_another_still_takes(run: Run, user: User) -> None:
    redeem_ticket(issue_ticket(user, run), run.pk)
    assert UsedTicket.objects.get().expires_at > timezone.now() + timedelta(minutes=30)


def test_it_forgets_what_nobody_can_use_any_more(run: Run, user: User) -> None:
    past = timezone.now() - timedelta(seconds=1)
    UsedTicket.objects.create(digest="old", expires_at=past)
    ticket = issue_ticket(user, run)
    assert redeem_ticket(ticket, run.pk) is not None
    forget_expired_tickets()
    assert "old" not in UsedTicket.objects.values_list("digest", flat=True)
    assert UsedTicket.objects.count() == 1
