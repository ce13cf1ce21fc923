"""The log of `send_alerts` has one line at the beginning and one at the end of an outage of the database."""

from __future__ import annotations

import pytest
from django.db import OperationalError

from runs.alerts.sending import outbox, sender
from tests.support.stack import wait_for


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(sender.logger, "warning", lambda text, *values: said.append(text % values if values else text))
    return said


def fail(*given: object) -> None:
    raise OperationalError("database is locked")


def ticks(sending: sender.Sender, count: int = 3) -> None:
    """Let the sender look for due messages, and wait for its threads each time."""
    for _ in range(count):
        sending.tick(0.0)
        wait_for(lambda: not any(each.thread.is_alive() for each in sending._sending.values()), "its threads")


def test_it_logs_that_it_cannot_read_and_that_it_can_again(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(outbox, "renew", lambda messages, now: None)
    monkeypatch.setattr(outbox, "due", fail)
    sending = sender.Sender()
    ticks(sending)
    assert said == ["the database is unavailable (OperationalError): alert messages are sent later"]
    monkeypatch.setattr(outbox, "due", lambda now: {})
    ticks(sending)
    assert said[1:] == ["the database is back: alert messages are sent again"]


def test_it_logs_that_it_cannot_write_and_that_it_can_again(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(outbox, "renew", lambda messages, now: None)
    monkeypatch.setattr(outbox, "due", lambda now: {1: False, 2: False})
    monkeypatch.setattr(outbox, "claim", fail)
    sending = sender.Sender()
    ticks(sending)
    assert said == ["the database takes no changes (OperationalError): alert messages are sent later"]
    monkeypatch.setattr(outbox, "claim", lambda destination, now: None)
    ticks(sending)
    assert said[1:] == ["the database takes changes again: alert messages are sent again"]
