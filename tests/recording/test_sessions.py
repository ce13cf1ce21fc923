"""Each message of a host side is answered once, even if repeated; a superseded host only stores history."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from django.db import OperationalError

from runs.models import Attempt, Command, EpochMetric, Run, StoredEvent
from runs.protocol.causes import OfReplay, stored
from runs.recording.lifecycle import Holder, Lease, open_attempt
from runs.recording.record_side import console_bound, folding
from runs.recording.record_side.session import RecordSession
from steersman.messages.ended import Concluded, Ended, Fenced, LastWords
from steersman.messages.looking import LOOKS_AGAIN, NOT_LOOKING
from steersman.messages.orders import Post, SignalRequest
from steersman.messages.reports import Attach, Attached, ConsoleText, Line, Position, Report, Stored
from steersman.records.kinds import EpochRecord, OutcomeRecord, PlanRecord, PointRecord, StateRecord
from steersman.records.point_blocks import in_blocks
from tests.recording.test_orders import ask
from tests.recording.test_reports import new_lease, steps_of
from trainer.control.concluding import conclude_ended

pytestmark = pytest.mark.django_db(transaction=True)

FAILED = Ended(rank=0, code=1, codes=[1], last_words=LastWords(outcome="failed", error="ValueError: no"))


@dataclass
class Observer:
    """An observer that collects reports, and returns a message for each."""

    seen: list[int] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def see(self, report: Report, step: int, stalled: bool) -> None:
        self.seen.append(report.number)
        self.lines.append(Line(f"seen {report.number}"))

    def take_lines(self) -> list[Line]:
        lines, self.lines = self.lines, []
        return lines

    def finish(self) -> None: ...


@pytest.fixture
def lease() -> Lease:
    return new_lease()


def session_of(lease: Lease, observer: Observer | None = None) -> RecordSession:
    return RecordSession(lease, conclude_ended, observer or Observer())


def attach(session: RecordSession, posted: Sequence[str] = (), token: str = "one") -> Attached:
    (attached,) = session.answer(Attach(token, posted))
    assert isinstance(attached, Attached)
    return attached


def points(attached: Attached, number: int, steps: Sequence[int], **fields: Any) -> Report:
    begin, end = Position(0, 100 * (steps[0] - 1), steps[0] - 1), Position(0, 100 * steps[-1], steps[-1])
    records = [PointRecord(step=step, number=step - 1, time=1.7e9 + step, values={"loss": 1 / step}) for step in steps]
    of_journal = {"begin": {0: begin}, "end": {0: end}, "records": in_blocks([*records, *fields.pop("records", ())])}
    return Report(attached.session, number, **of_journal, **fields)


def unchanged(lease: Lease) -> dict[str, Any]:
    """Return the run's row without the numbers of its events, and its commands."""
    run = Run.objects.filter(pk=lease.run_id).values().get()
    return {name: value for name, value in run.items() if name != "last_seq"} | {
        "commands": list(Command.objects.filter(run_id=lease.run_id).order_by("pk").values())
    }


def lines_of(lease: Lease) -> str:
    frames = StoredEvent.objects.filter(run_id=lease.run_id, kind="log").values_list("frame", flat=True)
    return "\n".join(frames)


def test_an_overtaken_attempt_leaves_its_history_and_changes_neither_the_run_nor_its_commands(lease):
    session = session_of(lease)
    attached = attach(session)
    (stored,) = session.answer(points(attached, 1, [1, 2]))
    assert isinstance(stored, Stored) and stored.number == 1
    newer = open_attempt(lease.run_id, Holder("other", "boot", 2), lease.number, command_line=[])
    command = ask(lease, "pause")
    before = unchanged(lease)
    report = points(
        attached,
        2,
        [3, 4],
        records=[
            EpochRecord(epoch=1, step=4, time=1.7e9, best=True, values={"validation_loss": 0.5}),
            StateRecord(step=4, time=1.7e9, state="paused"),
            PlanRecord(step=4, time=1.7e9, total_steps=9),
            OutcomeRecord(step=4, time=1.7e9, id=str(command.pk), command="pause", state="applied"),
        ],
        console=ConsoleText(["printed while cut off"], offsets={0: 22}),
        asked=[SignalRequest("6a2c3c2e-0d3f-4d0c-9f2e-0f5b2f6f3d11", "stop", "SIGTERM")],
        not_looking_s=9.0,
    )
    answers = session.answer(report)
    assert [type(each) for each in answers] == [Stored, Fenced]
    assert answers[0].number == 2 and answers[1].overtaken
    # A repeated report is neither stored nor observed again.
    assert [each.number for each in session.answer(report)] == [2]
    assert session.look(for_commands=True) == []
    assert [each.number for each in session.answer(points(attached, 3, [5]))] == [3]
    (concluded,) = session.answer(FAILED)
    assert concluded == Concluded(state="failed", reason="ValueError: no", exit_code=1)
    assert unchanged(lease) == before
    assert steps_of(lease) == [1, 2, 3, 4, 5]
    assert list(EpochMetric.objects.filter(run_id=lease.run_id).values_list("attempt", "epoch", "best")) == [
        (1, 1, False)
    ]
    assert "printed while cut off" in lines_of(lease)
    attempt = Attempt.objects.get(pk=lease.attempt_id)
    assert (attempt.outcome, attempt.error, attempt.exit_code, attempt.last_step) == ("failed", "ValueError: no", 1, 5)
    assert Attempt.objects.get(pk=newer.attempt_id).outcome == ""


def test_the_command_of_a_signal_is_recorded_only_with_its_report(lease):
    session = session_of(lease)
    attached = attach(session)
    asked = [SignalRequest("6a2c3c2e-0d3f-4d0c-9f2e-0f5b2f6f3d11", "stop", "SIGTERM")]
    (stored,) = session.answer(points(attached, 2, [5], asked=asked))
    assert stored.number == 0 and not Command.objects.exists()
    (stored,) = session.answer(points(attached, 1, [1], asked=asked))
    assert stored.number == 1
    assert list(Command.objects.values_list("kind", "state", "attempt")) == [("stop", "delivered", lease.number)]


def test_a_host_side_that_comes_back_after_it_was_overtaken_leaves_its_history_too(lease):
    attach(session_of(lease))
    open_attempt(lease.run_id, Holder("other", "boot", 2), lease.number, command_line=[])
    session = session_of(lease)
    attached, fenced = session.answer(Attach("two"))
    assert isinstance(attached, Attached) and isinstance(fenced, Fenced) and fenced.overtaken
    assert [each.number for each in session.answer(points(attached, 1, [1]))] == [1]
    assert steps_of(lease) == [1]


def test_whatever_is_sent_again_is_stored_and_seen_once(lease):
    observer = Observer()
    session = session_of(lease, observer)
    attached = attach(session)
    assert attach(session).session == attached.session
    report = points(attached, 1, [1, 2], not_looking_s=9.0)
    assert session.answer(report) == session.answer(report)
    assert steps_of(lease) == [1, 2] and observer.seen == [1]
    assert session.look(for_commands=False) == session.look(for_commands=False) == []
    assert lines_of(lease).count("seen 1") == 1
    first = session.answer(FAILED)
    ended_at = Run.objects.get(pk=lease.run_id).ended_at
    assert session.answer(replace(FAILED, code=0, codes=[0])) == first
    assert Run.objects.get(pk=lease.run_id).ended_at == ended_at


def test_a_report_of_a_session_that_is_over_stores_nothing_and_learns_of_the_present_one(lease):
    session = session_of(lease)
    gone = attach(session)
    attached = attach(session, token="two")
    (answer,) = session.answer(points(gone, 1, [1]))
    assert (answer.session, answer.answers, answer.number) == (attached.session, 1, 0) and steps_of(lease) == []
    assert [each.number for each in session.answer(points(attached, 1, [1]))] == [1]


def test_the_host_side_that_another_follows_is_told_to_leave_the_training_to_it(lease):
    first, second = session_of(lease), session_of(lease)
    attached = attach(first)
    attach(second, token="two")
    (fenced,) = first.answer(points(attached, 1, [1]))
    assert isinstance(fenced, Fenced) and not fenced.overtaken and steps_of(lease) == []
    assert first.look(for_commands=True) == []


def test_no_command_is_handed_to_a_host_side_that_another_has_followed(lease):
    first, second = session_of(lease), session_of(lease)
    attach(first)
    attach(second, token="two")
    command = ask(lease, "pause")
    (fenced,) = first.look(for_commands=True)
    assert isinstance(fenced, Fenced) and not fenced.overtaken
    assert [order.command.id for order in second.look(for_commands=True)] == [str(command.pk)]


def test_a_command_is_handed_to_a_session_once_and_to_the_next_one_if_it_was_not_posted(lease):
    lost, had = ask(lease, "pause"), ask(lease, "pause")
    session = session_of(lease)
    attached = attach(session)
    orders = session.look(for_commands=True)
    assert [order.command.id for order in orders if isinstance(order, Post)] == [str(lost.pk), str(had.pk)]
    assert session.look(for_commands=True) == []
    session.answer(points(attached, 1, [1], posted=[str(had.pk)]))
    following = session_of(lease)
    attach(following, [str(had.pk)], token="two")
    assert [order.command.id for order in following.look(for_commands=True)] == [str(lost.pk)]


def test_a_database_that_fails_while_it_is_tidied_loses_no_command(lease, monkeypatch):
    session = session_of(lease)
    attach(session)
    failures = [OperationalError("database is locked")]

    def bound(run_id: int, largest_characters: int) -> int:
        if failures:
            raise failures.pop()
        return 0

    monkeypatch.setattr(console_bound, "bound_console", bound)
    command = ask(lease, "pause")
    handed: list[str] = []
    while failures or session.has_work:
        with suppress(OperationalError):
            handed += [order.command.id for order in session.look(for_commands=True) if isinstance(order, Post)]
    assert handed == [str(command.pk)]


def test_viewers_are_told_once_that_a_training_does_not_look_and_once_that_it_looks_again(lease):
    session = session_of(lease)
    attached = attach(session)
    for number, seconds in ((1, 9.0), (2, None), (3, 0.0)):
        report = points(attached, number, [number], not_looking_s=seconds)
        session.answer(report)
        session.answer(report)
        is_deaf = Run.objects.get(pk=lease.run_id).not_looking_since is not None
        assert is_deaf == (number < 3)
        assert attach(session_of(lease), token=str(number)).is_not_looking == is_deaf
        attached = attach(session, token=f"again {number}")
    frames = list(StoredEvent.objects.filter(run_id=lease.run_id, kind="status").values_list("frame", flat=True))
    assert [sum(text in frame for frame in frames) for text in (NOT_LOOKING, LOOKS_AGAIN)] == [1, 1]


def test_a_command_of_a_replay_waits_for_the_next_attempt_although_the_host_side_is_still_there(lease):
    session = session_of(lease)
    attached = attach(session)
    command = ask(lease, "pause")
    Command.objects.update(cause=stored(OfReplay(run=lease.run_id)))
    assert len(session.look(for_commands=True)) == 1
    session.answer(points(attached, 1, [1], posted=[str(command.pk)]))
    session.answer(FAILED)
    for token in ("one", "two"):
        attach(session, [str(command.pk)], token=token)
        assert session.look(for_commands=True) == []
        assert Command.objects.get().state == "sent"


def test_the_end_of_a_training_that_may_start_again_tells_when(lease):
    Run.objects.filter(pk=lease.run_id).update(restarts=2)
    session = session_of(lease)
    attached = attach(session)
    session.answer(points(attached, 1, [1]))
    (concluded,) = session.answer(FAILED)
    assert isinstance(concluded, Concluded) and concluded.restart_in_s is not None and concluded.restart_in_s > 0
    assert (concluded.state, concluded.used, concluded.allowed) == ("failed", 1, 2)
    assert Run.objects.get(pk=lease.run_id).state == "queued"


def test_a_host_side_that_did_not_receive_the_end_is_told_of_the_restart_again(lease):
    """The process that records may be killed after it has stored the end and before it has answered."""
    Run.objects.filter(pk=lease.run_id).update(restarts=2)
    session = session_of(lease)
    session.answer(points(attach(session), 1, [1]))
    session.answer(FAILED)
    following = session_of(lease)
    following.answer(points(attach(following, token="two"), 2, [2]))
    assert Run.objects.get(pk=lease.run_id).state == "queued"
    (concluded,) = following.answer(FAILED)
    assert isinstance(concluded, Concluded) and concluded.restart_in_s is not None
    assert (concluded.state, concluded.used) == ("failed", 1)


def test_a_training_that_its_host_cannot_start_again_is_not_queued(lease):
    Run.objects.filter(pk=lease.run_id).update(restarts=2)
    session = session_of(lease)
    attach(session)
    (concluded,) = session.answer(replace(FAILED, may_restart=False))
    assert isinstance(concluded, Concluded) and concluded.restart_in_s is None
    assert Run.objects.get(pk=lease.run_id).state == "failed"


def test_without_reports_and_commands_there_is_work_only_for_lines_and_what_is_due(
    lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = Observer()
    session = session_of(lease, observer)
    assert not session.has_work
    attach(session)
    # The console of an earlier supervisor is bounded once.
    assert session.has_work
    session.look(for_commands=False)
    assert not session.has_work
    observer.lines.append(Line("a detector is switched off"))
    # Asking again loses no line.
    assert session.has_work and session.has_work
    session.look(for_commands=False)
    assert StoredEvent.objects.filter(run_id=lease.run_id, frame__contains="a detector is switched off").count() == 1
    assert not session.has_work
    monkeypatch.setattr(folding, "FOLD_INTERVAL_S", 0.0)
    assert session.has_work
