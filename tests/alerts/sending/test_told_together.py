"""Digests, quiet hours and cleared alerts: from rows through the sender's process to a mail server and a webhook.

Each destination exists twice, in English and in Chinese.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.stack import Stack, rows, wait_for
from tests.support.telling.fake_senders import HttpServer, MailServer
from tests.support.telling.scene import (
    add_destination,
    begin_alerts,
    clear_alerts,
    crash_runs,
    deliveries,
    let_minutes_pass,
    moment,
    sending,
    states,
)

LANGUAGES = ("en", "zh-hans")
# Longer than any machine's delay.
HOURS = timedelta(hours=6)
DIGEST_MINUTES = 300


class Readers:
    """The messages that the mail server and the webhook of one project received, by language."""

    def __init__(self, lab: Stack) -> None:
        self.lab = lab
        self.mail, self.webhook = MailServer(), HttpServer()
        self.mail.start()
        self.webhook.start()

    def add(self, **fields: object) -> None:
        for language in LANGUAGES:
            add_destination(self.lab, "mail", f"{language}@example.org", language=language, **fields)
            address = f"json://127.0.0.1:{self.webhook.port}/{language}"
            add_destination(self.lab, "service", address, language=language, **fields)

    def told(self, language: str) -> list[tuple[str, str]]:
        """Return subject and text of each message in a language, mails first."""
        mails = [
            (str(mail["Subject"]).strip(), str(mail.get_body(("plain",)).get_content()))  # type: ignore[union-attr]
            for _, mail in self.mail.mails
            if mail["To"] == f"{language}@example.org"
        ]
        bodies = [json.loads(body) for _, path, _, body in self.webhook.requests if path == f"/{language}"]
        return mails + [(body["title"], body["message"]) for body in bodies]

    def sender(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return sending(self.lab, STEERSMAN_EMAIL_URL=f"smtp://127.0.0.1:{self.mail.port}")

    def stop(self) -> None:
        self.mail.stop()
        self.webhook.stop()


@pytest.fixture
def readers(lab: Stack) -> Iterator[Readers]:
    made = Readers(lab)
    yield made
    made.stop()


def waits_for_hours(lab: Stack) -> list[bool]:
    """Return, for each waiting row, whether it was postponed for longer than any pause between alerts."""
    late = datetime.now(UTC) + timedelta(hours=1)
    return [moment(row["due_at"]) > late for row in deliveries(lab) if row["state"] == "waiting"]


def test_forty_crashed_runs_are_one_message_of_a_digest(lab: Stack, readers: Readers) -> None:
    readers.add(digest_minutes=DIGEST_MINUTES)
    with readers.sender():
        for count in (15, 25):
            crash_runs(lab, count, "RuntimeError: the disk of the cluster is gone")
            wait_for(lambda: all(waits_for_hours(lab)), lambda: f"the digest that waits\n{lab.log()}")
        assert states(lab) == ["waiting"] * 160 and not readers.mail.mails and not readers.webhook.requests
        let_minutes_pass(lab)
        wait_for(lambda: states(lab) == ["sent"] * 160, lambda: f"the digests\n{lab.log()}")
    for language, subject, more in (
        ("en", "[Lab] 40 alerts of 40 runs: Crashed", "and 20 more alerts"),
        ("zh-hans", "[Lab] 40 条告警 来自 40 个运行: 已崩溃", "另有 20 条告警"),
    ):
        told = readers.told(language)
        assert [each for each, _ in told] == [subject] * 2
        for _, text in told:
            assert more in text and text.count("RuntimeError: the disk of the cluster is gone") == 3
            assert [f"sweep {number}" in text for number in (0, 14)] == [True, True]


def test_quiet_hours_hold_back_what_is_not_critical_until_they_end(lab: Stack, readers: Readers) -> None:
    now = datetime.now(UTC)
    quiet = {"quiet_from": (now - HOURS).time().isoformat(), "quiet_until": (now + HOURS).time().isoformat()}
    readers.add(**quiet)
    with readers.sender():
        begin_alerts(lab, severity="warning", detector="plateau")
        wait_for(lambda: waits_for_hours(lab) == [True] * 4, lambda: f"the quiet hours\n{lab.log()}")
        end = now + HOURS
        assert all(abs(moment(row["due_at"]) - end) < timedelta(minutes=1) for row in deliveries(lab))
        begin_alerts(lab, severity="critical", detector="divergence")
        wait_for(
            lambda: sorted(states(lab)) == ["sent"] * 4 + ["waiting"] * 4, lambda: f"the critical one\n{lab.log()}"
        )
        # Hours later the quiet hours are over.
        rows(lab, "UPDATE runs_alertdestination SET quiet_from = ?, quiet_until = ?", *later(now))
        let_minutes_pass(lab)
        wait_for(lambda: states(lab) == ["sent"] * 8, lambda: f"the end of the quiet hours\n{lab.log()}")
    for language, critical, warning in (("en", "Divergence", "Plateau"), ("zh-hans", "发散", "平台期")):
        subjects = [subject for subject, _ in readers.told(language)]
        assert subjects == [f"[Lab] run 0: {critical}", f"[Lab] run 0: {warning}"] * 2


def later(now: datetime) -> tuple[str, str]:
    """Return the beginning and end of quiet hours that ended an hour ago."""
    return (now - 2 * HOURS).time().isoformat(), (now - timedelta(hours=1)).time().isoformat()


def test_the_end_of_an_alert_is_told_to_those_who_ask_for_it_and_were_told_of_it(lab: Stack, readers: Readers) -> None:
    readers.add(tells_cleared=True)
    silent = add_destination(lab, "mail", "silent@example.org")
    with readers.sender():
        begin_alerts(lab, severity="warning", detector="spike")
        wait_for(lambda: states(lab) == ["sent"] * 5, lambda: f"the beginning\n{lab.log()}")
        new = add_destination(lab, "mail", "new@example.org", tells_cleared=True)
        clear_alerts(lab)
        wait_for(lambda: states(lab) == ["sent"] * 9, lambda: f"the end\n{lab.log()}")
    assert [row["moment"] for row in deliveries(lab, silent)] == ["began"] and not deliveries(lab, new)
    for language, began, over in (("en", "Spike", "over: Spike"), ("zh-hans", "尖峰", "已结束：尖峰")):
        told = readers.told(language)
        assert [subject for subject, _ in told] == [f"[Lab] run 0: {began}", f"[Lab] run 0: {over}"] * 2
        assert all(over in text for subject, text in told if over in subject)


def test_what_began_and_ended_within_a_digest_is_told_once_as_over(lab: Stack, readers: Readers) -> None:
    readers.add(tells_cleared=True, digest_minutes=DIGEST_MINUTES)
    with readers.sender():
        begin_alerts(lab, severity="warning", detector="spike")
        clear_alerts(lab)
        wait_for(lambda: waits_for_hours(lab) == [True] * 8, lambda: f"the digest that waits\n{lab.log()}")
        let_minutes_pass(lab)
        wait_for(lambda: states(lab) == ["sent"] * 8, lambda: f"the digests\n{lab.log()}")
    assert [subject for subject, _ in readers.told("en")] == ["[Lab] run 0: over: Spike"] * 2
    assert [subject for subject, _ in readers.told("zh-hans")] == ["[Lab] run 0: 已结束：尖峰"] * 2
