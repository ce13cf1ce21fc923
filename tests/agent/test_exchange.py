"""One report is in transit at a time over a link that breaks: stored ones are settled, all others are sent again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steersman.agent.host_side.exchange import Behind, Cut, Exchange, Lost, Settled
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.report_sequence import ReportSequence, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.messages.link import LinkCut
from steersman.messages.orders import Post
from steersman.messages.reports import Attach, Attached, Line, Position, Refused, Report, Stored
from steersman.records.posted import PostedCommand


class Scripted:
    """A link that returns the messages that a test has put into it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.coming: list[Any] = []
        self.is_cut = False

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def receive(self) -> list[Any]:
        if self.is_cut:
            self.is_cut = False
            raise LinkCut
        coming, self.coming = self.coming, []
        return coming


class Conversation:
    """An exchange over a scripted link."""

    def __init__(self, folder: Path) -> None:
        self.link = Scripted()
        reports = ReportSequence(folder, Redactor(folder, folder, {}), StoredProgress())
        self.exchange = Exchange(self.link, reports)

    def attach(self, session: int, next_report: int, made_at_s: float = 0.0) -> list[Any]:
        self.exchange.attach([], 0.9)
        asked = self.link.sent[-1]
        assert isinstance(asked, Attach)
        self.link.coming.append(
            Attached(session, next_report, {0: Position()}, {0: 0}, token=asked.token, made_at_s=made_at_s)
        )
        return self.exchange.poll(1.0)

    def report(self, text: str) -> Tick:
        tick = Tick(lines=[Line(text)])
        self.exchange.report(tick, 2.0)
        return tick


@pytest.fixture
def conversation(tmp_path: Path) -> Conversation:
    found = Conversation(tmp_path)
    assert not found.exchange.is_idle
    assert [type(each) for each in found.attach(1, 4)] == [Attached]
    return found


def stored(number: int, answers: int, session: int = 1, **fields: Any) -> Stored:
    return Stored(number, {}, session=session, answers=answers, **fields)


def test_answers_to_other_reports_change_nothing(conversation: Conversation) -> None:
    tick = conversation.report("said")
    conversation.link.coming += [stored(3, 3), stored(4, 4, session=0), Attached(9, 9, {}, {}, token="another")]
    assert conversation.exchange.poll(3.0) == [] and not conversation.exchange.is_idle
    conversation.link.coming += [stored(4, 4), stored(4, 4)]
    assert conversation.exchange.poll(3.0) == [Settled(tick, 2.0)] and conversation.exchange.is_idle


@pytest.mark.parametrize(("next_report", "news"), [(5, Settled), (4, Lost)])
def test_after_a_cut_a_report_is_settled_if_it_was_stored_and_told_again_if_not(
    conversation: Conversation, next_report: int, news: type
) -> None:
    tick = conversation.report("said")
    conversation.link.is_cut = True
    assert conversation.exchange.poll(3.0) == [Cut()]
    first, attached = conversation.attach(2, next_report)
    assert isinstance(first, news) and first.tick is tick and attached.session == 2
    again = conversation.report("more")
    assert conversation.link.sent[-1].number == next_report
    conversation.link.coming.append(stored(next_report, next_report, session=2))
    assert conversation.exchange.poll(4.0) == [Settled(again, 2.0)]


@pytest.mark.parametrize("answer", [stored(2, 4), stored(0, 4, session=2)])
def test_a_record_side_that_holds_less_or_another_session_is_attached_to_again(
    conversation: Conversation, answer: Stored
) -> None:
    conversation.report("said")
    conversation.link.coming.append(answer)
    assert [type(each) for each in conversation.exchange.poll(3.0)] == [Behind]


def test_what_is_refused_is_sent_again_without_it_once_the_disk_has_taken_it(
    conversation: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    tick = conversation.report("said")
    with monkeypatch.context() as full:
        full.setattr("steersman.agent.reporting.report_sequence.put_into_quarantine", refuse)
        conversation.link.coming.append(stored(3, 4, refused=[Refused("lines", 0, "why")]))
        assert conversation.exchange.poll(3.0) == []
    assert [type(each) for each in conversation.link.sent[1:]] == [Report]
    assert conversation.exchange.poll(3.1) == []
    assert conversation.exchange.poll(4.0) == []
    assert [len(each.lines) for each in conversation.link.sent[1:]] == [1, 0]
    conversation.link.coming.append(stored(4, 4))
    assert conversation.exchange.poll(4.1) == [Settled(tick, 2.0)]


def test_the_time_of_a_command_on_a_link_that_stood_still_counts(tmp_path: Path) -> None:
    """The record side's clock is 100 s ahead, and its first answers were in transit for 0.4 and 0.1 s at most."""
    conversation = Conversation(tmp_path)
    command = PostedCommand(id="a", command="save_checkpoint")

    def left_s(made_at_s: float, now: float, expires_in_s: float | None = 5.0) -> float | None:
        conversation.link.coming.append(Post(command, expires_in_s, made_at_s))
        (post,) = conversation.exchange.poll(now)
        return post.expires_in_s

    conversation.attach(1, 4, made_at_s=101.3)
    assert left_s(102.0, now=2.0) == pytest.approx(4.6)
    assert left_s(102.0, now=9.0) == pytest.approx(-2.4)
    assert left_s(102.0, now=9.0, expires_in_s=None) is None
    conversation.report("said")
    conversation.link.coming.append(stored(4, 4, made_at_s=102.1))
    conversation.exchange.poll(2.1)
    assert left_s(103.0, now=3.0) == pytest.approx(4.9)
    # Another process answers, with another clock.
    conversation.link.is_cut = True
    conversation.exchange.poll(3.0)
    conversation.attach(2, 5, made_at_s=51.2)
    assert left_s(52.0, now=2.0) == pytest.approx(4.7)
