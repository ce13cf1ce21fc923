"""The command log: each request becomes one row, the run's state decides about it, and it ends once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from runs.access.roles import Viewer
from runs.commands.record import NotAllowed, record, record_as
from runs.models import Command, CommandState, Project, Recipe, Run, RunState, StoredEvent
from runs.protocol.commands import COMMANDS, Request, parse_command
from runs.protocol.events import decode_event
from runs.recording.lifecycle import (
    AttemptEnd,
    Holder,
    Lease,
    complete_command,
    deliver_command,
    end_attempt,
    expire_commands,
    open_attempt,
    open_commands,
)
from runs.recording.record_side.orders import as_post
from steersman.knobs import Knob
from steersman.spec import ValueSpec

pytestmark = pytest.mark.django_db
RATE = ValueSpec("rate", "float", minimum=0.0, maximum=1.0)
HOLDER = Holder(host="here", boot_id="b", pid=1)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "set_knob": {"knob": "rate", "value": 0.2},
    "note": {"text": "look here"},
    "extend": {"epochs": 2},
    "cancel": {"command": str(uuid4())},
    "set_priority": {"priority": -1},
}


def new_run(state: str = RunState.CREATED, **fields: Any) -> Run:
    project, _ = Project.objects.get_or_create(name="Lab", slug="lab")
    recipe, _ = Recipe.objects.get_or_create(spec="digits", title="Digits")
    return Run.objects.create(**{"project": project, "name": "run", "state": state, "recipe": recipe} | fields)


@pytest.fixture
def lease() -> Lease:
    """A live run with one knob, at step 100 and after epoch 2."""
    run = new_run()
    lease = open_attempt(run.pk, HOLDER, 0, command_line=[])
    Run.objects.filter(pk=run.pk).update(knobs=[Knob(RATE, 0.1).to_wire()], step=100, epoch=2)
    return lease


def request(kind: str, **fields: Any) -> Request:
    return parse_command({"command": kind, "arguments": ARGUMENTS.get(kind, {}), **fields})


def send(run_id: int, kind: str, **fields: Any) -> Command:
    """Record a command, and return its current row."""
    command = record(run_id, request(kind, **fields), author_id=None, author_name="Ada")
    command.refresh_from_db()
    return command


def told(run_id: int) -> list[tuple[str, str]]:
    """Return (command, state) of every event about commands, in order."""
    frames = StoredEvent.objects.filter(run_id=run_id, kind="command").order_by("seq").values_list("frame", flat=True)
    return [(event.command, event.state) for event in map(decode_event, frames)]  # type: ignore[attr-defined]


def test_a_row_keeps_who_why_when_and_under_which_condition(lease: Lease) -> None:
    key = str(uuid4())
    asked = {
        "id": key,
        "reason": "it diverges",
        "expires_in_s": 60,
        "expect": {"state": "paused", "value": 0.1},
        "at": {"step": 200},
    }
    command = send(lease.run_id, "set_knob", **asked)
    assert (str(command.pk), command.author_name, command.reason) == (key, "Ada", "it diverges")
    assert command.state == CommandState.SENT and command.delivered_at is command.applied_at is None
    assert command.expires_at is not None
    assert timedelta(seconds=55) < command.expires_at - command.sent_at <= timedelta(seconds=61)
    assert (command.expected_state, command.expected_value, command.at_step) == ("paused", 0.1, 200)
    assert command.arguments == {"knob": "rate", "value": 0.2, "factor": None, "group": ""}


def test_the_same_id_ten_times_is_one_effect(lease: Lease) -> None:
    asked = request("extend")
    Run.objects.filter(pk=lease.run_id).update(state=RunState.FINISHED, total_epochs=10)
    rows = {record(lease.run_id, asked, author_id=None, author_name="Ada").pk for _ in range(10)}
    assert len(rows) == 1 and Command.objects.count() == 1
    run = Run.objects.get(pk=lease.run_id)
    assert (run.total_epochs, run.extra_epochs) == (12, 2)
    assert told(lease.run_id) == [("extend", "sent"), ("extend", "applied")]


@pytest.mark.django_db(transaction=True)
def test_the_same_id_at_the_same_time_is_one_effect() -> None:
    run = new_run(RunState.FINISHED, total_epochs=10)
    asked = request("extend")
    start, failures = threading.Barrier(8), []

    def send_once() -> None:
        try:
            start.wait(60)
            record(run.pk, asked, author_id=None, author_name="Ada")
        except Exception as error:  # raised below, because exceptions in threads do not fail a test
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=send_once) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    run.refresh_from_db()
    assert failures == [] and Command.objects.count() == 1
    assert (run.total_epochs, run.extra_epochs) == (12, 2)


def test_an_id_of_another_run_is_not_taken(lease: Lease) -> None:
    asked = request("stop")
    record(lease.run_id, asked, author_id=None, author_name="Ada")
    with pytest.raises(NotAllowed, match="another run") as refusal:
        record(new_run(RunState.RUNNING).pk, asked, author_id=None, author_name="Ada")
    assert refusal.value.field == "id" and Command.objects.count() == 1


def test_who_may_not_command_leaves_no_row(lease: Lease) -> None:
    user = User.objects.create(username="ben")
    with pytest.raises(NotAllowed, match="operator role"):
        record_as(lease.run_id, request("stop"), Viewer(user_id=user.pk, name="Ben", role="viewer"))
    assert not Command.objects.exists()
    asked = record_as(lease.run_id, request("stop"), Viewer(user_id=user.pk, name="Ben", role="operator"))
    assert (asked.author_id, asked.author_name) == (user.pk, "Ben")


@pytest.mark.parametrize("state", RunState.values)
@pytest.mark.parametrize("kind", sorted(COMMANDS))
def test_each_command_is_taken_in_its_states_and_refused_in_others(kind: str, state: str) -> None:
    command = send(new_run(state).pk, kind)
    if state not in COMMANDS[kind].legal_in:
        assert command.state == CommandState.REFUSED and command.outcome == f"The run is {state}."
    elif kind in ("move_to_front", "start_anyway"):
        assert command.state == CommandState.REFUSED and command.outcome.startswith(
            ("None of the runs ahead", "The run does not wait")
        )
    elif kind == "cancel":
        assert command.state == CommandState.REFUSED and command.outcome == "This run has no such command."
    elif kind == "end_process":
        assert command.state == CommandState.REFUSED and "send stop first" in command.outcome
    elif state in ("running", "paused"):
        assert command.state == CommandState.SENT
    else:
        assert command.state == CommandState.APPLIED


@pytest.mark.parametrize(
    ("kind", "fields", "outcome"),
    [
        ("set_knob", {"arguments": {"knob": "rat", "value": 1}}, "This training has no knob 'rat': it has rate."),
        ("set_knob", {"arguments": {"knob": "rate", "value": 7}}, "rate takes a number from 0 to 1, not 7."),
        ("set_knob", {"arguments": {"knob": "rate", "value": "x"}}, "rate takes a number from 0 to 1, not 'x'."),
        ("set_knob", {"arguments": {"knob": "rate", "value": True}}, "rate takes a number from 0 to 1, not true."),
        ("set_knob", {"arguments": {"knob": "rate", "factor": 2, "group": "a"}}, "rate has no parameter group 'a'"),
        ("stop", {"expect": {"state": "finished"}}, "The run was expected to be finished, but it is running."),
        ("stop", {"at": {"step": 99}}, "Step 99 has passed: the run is at step 100."),
        ("stop", {"at": {"epoch": 1}}, "Epoch 1 has passed: the run has completed epoch 2."),
    ],
)
def test_what_cannot_be_is_refused_at_once_in_a_sentence(
    lease: Lease, kind: str, fields: dict[str, Any], outcome: str
) -> None:
    command = send(lease.run_id, kind, **fields)
    assert command.state == CommandState.REFUSED and command.outcome.startswith(outcome)
    assert command.delivered_at is None and told(lease.run_id) == [(kind, "sent"), (kind, "refused")]


def test_whether_a_live_run_is_paused_is_judged_by_the_training(lease: Lease) -> None:
    """The event of an earlier pause may not have arrived yet."""
    assert send(lease.run_id, "set_knob", expect={"state": "paused"}).state == CommandState.SENT


def test_knobs_that_are_not_told_yet_are_left_to_the_training(lease: Lease) -> None:
    Run.objects.filter(pk=lease.run_id).update(knobs=[])
    assert send(lease.run_id, "set_knob", arguments={"knob": "other", "value": 1}).state == CommandState.SENT


def test_a_run_at_rest_waits_for_no_step() -> None:
    command = send(new_run(RunState.STOPPED).pk, "note", at={"step": 5})
    assert command.state == CommandState.REFUSED and "no step to wait for" in command.outcome


def test_a_note_on_a_run_at_rest_is_pinned_to_its_last_step() -> None:
    command = send(new_run(RunState.FAILED, step=77).pk, "note")
    assert (command.state, command.step) == (CommandState.APPLIED, 77) and command.applied_at is not None


def test_a_finished_run_that_is_extended_can_be_resumed() -> None:
    run = new_run(RunState.FINISHED, total_epochs=10, steps_per_epoch=5, total_steps=50, step=50, attempt=1)
    command = send(run.pk, "extend")
    run.refresh_from_db()
    assert (command.state, command.old_value, command.new_value, command.step) == ("applied", 10, 12, 50)
    assert (run.state, run.total_epochs, run.total_steps, run.extra_epochs) == ("stopped", 12, 60, 2)
    assert open_attempt(run.pk, HOLDER, 1, command_line=[]).number == 2


@pytest.mark.parametrize("state", [RunState.CREATED, RunState.FINISHED, RunState.FAILED])
def test_a_script_at_rest_is_told_that_it_has_no_epochs(state: RunState) -> None:
    run = new_run(state, recipe=None)
    command = send(run.pk, "extend")
    run.refresh_from_db()
    assert (command.state, run.state, run.extra_epochs) == ("refused", state, 0)
    assert "Only a recipe can be extended" in command.outcome


def test_a_script_that_lives_answers_itself_how_it_is_made_longer() -> None:
    run = new_run(recipe=None)
    open_attempt(run.pk, HOLDER, 0, command_line=[])
    assert "This training cannot be extended" in send(run.pk, "extend").outcome
    Run.objects.filter(pk=run.pk).update(handled_commands=["extend"])
    assert send(run.pk, "extend").state == CommandState.SENT


def test_delivery_is_marked_once_and_told(lease: Lease) -> None:
    command = send(lease.run_id, "stop")
    assert [waiting.pk for waiting in open_commands(lease.run_id)] == [command.pk]
    assert deliver_command(lease, command)
    # A supervisor killed between mark and post tries again: the command still belongs to this worker.
    assert deliver_command(lease, command)
    command.refresh_from_db()
    assert (command.state, command.attempt) == (CommandState.DELIVERED, 1) and command.delivered_at is not None
    assert told(lease.run_id) == [("stop", "sent"), ("stop", "delivered")]


def test_an_outcome_is_given_once(lease: Lease) -> None:
    command = send(lease.run_id, "set_knob")
    deliver_command(lease, command)
    assert complete_command(command, CommandState.APPLIED, step=101, old=0.1, new=0.2, effective=0.05, ranks=4)
    assert not complete_command(command, CommandState.REFUSED, outcome="late")
    command.refresh_from_db()
    assert (command.state, command.step, command.ranks) == (CommandState.APPLIED, 101, 4)
    assert (command.old_value, command.new_value, command.effective_value) == (0.1, 0.2, 0.05)
    assert command.outcome == "" and not deliver_command(lease, command)
    assert told(lease.run_id)[-1] == ("set_knob", "applied") and len(told(lease.run_id)) == 3


def test_it_is_withdrawn_before_delivery_and_then_not_posted(lease: Lease) -> None:
    wanted = send(lease.run_id, "stop")
    cancel = send(lease.run_id, "cancel", arguments={"command": str(wanted.pk)})
    wanted.refresh_from_db()
    assert (wanted.state, wanted.outcome) == (CommandState.EXPIRED, "The command was cancelled.")
    assert cancel.state == CommandState.APPLIED
    assert not deliver_command(lease, wanted) and open_commands(lease.run_id) == []
    again = send(lease.run_id, "cancel", arguments={"command": str(wanted.pk)})
    assert (again.state, again.outcome) == (CommandState.REFUSED, "It is already expired.")


def test_what_the_training_has_already_cannot_be_withdrawn(lease: Lease) -> None:
    wanted = send(lease.run_id, "stop")
    deliver_command(lease, wanted)
    cancel = send(lease.run_id, "cancel", arguments={"command": str(wanted.pk)})
    assert cancel.state == CommandState.REFUSED and "executes it at its next step" in cancel.outcome
    wanted.refresh_from_db()
    assert wanted.state == CommandState.DELIVERED


def test_what_waits_in_the_training_is_withdrawn_by_the_training(lease: Lease) -> None:
    wanted = send(lease.run_id, "stop", at={"step": 500})
    deliver_command(lease, wanted)
    cancel = send(lease.run_id, "cancel", arguments={"command": str(wanted.pk)})
    assert cancel.state == CommandState.SENT and cancel in open_commands(lease.run_id)


def test_nothing_is_withdrawn_from_another_run_or_from_itself(lease: Lease) -> None:
    other = send(new_run(RunState.RUNNING).pk, "stop")
    key = str(uuid4())
    for asked in ({"arguments": {"command": str(other.pk)}}, {"id": key, "arguments": {"command": key}}):
        cancel = send(lease.run_id, "cancel", **asked)
        assert (cancel.state, cancel.outcome) == (CommandState.REFUSED, "This run has no such command.")
    other.refresh_from_db()
    assert other.state == CommandState.SENT


def _late(command: Command) -> None:
    Command.objects.filter(pk=command.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("of_all", [True, False])
def test_it_expires_where_it_is_not_delivered_in_time(lease: Lease, of_all: bool) -> None:
    late, early = send(lease.run_id, "stop", expires_in_s=60), send(lease.run_id, "pause", expires_in_s=60)
    delivered = send(lease.run_id, "evaluate", expires_in_s=60)
    deliver_command(lease, delivered)
    _late(late)
    _late(delivered)
    expire_commands(None if of_all else lease.run_id)
    for command in (late, early, delivered):
        command.refresh_from_db()
    assert (late.state, late.outcome) == (CommandState.EXPIRED, "The command was not delivered before it expired.")
    # The training decides about commands that it has received.
    assert early.state == CommandState.SENT and delivered.state == CommandState.DELIVERED
    assert not deliver_command(lease, late)


def test_a_host_whose_clock_is_hours_ahead_expires_nothing(lease: Lease, monkeypatch: pytest.MonkeyPatch) -> None:
    command = send(lease.run_id, "stop", expires_in_s=60)
    ahead = timedelta(hours=2)
    now, wall = timezone.now, time.time
    monkeypatch.setattr("django.utils.timezone.now", lambda: now() + ahead)
    monkeypatch.setattr(time, "time", lambda: wall() + ahead.total_seconds())
    expire_commands(lease.run_id)
    command.refresh_from_db()
    assert command.state == CommandState.SENT and deliver_command(lease, command)
    left_s = as_post(command).expires_in_s
    assert left_s is not None and 0.0 < left_s <= 60.0
    assert as_post(send(lease.run_id, "pause")).expires_in_s is None


@pytest.mark.parametrize("apart", [timedelta(hours=-2), timedelta(hours=2)])
def test_a_sender_whose_clock_is_hours_apart_gives_a_command_its_own_seconds(
    lease: Lease, monkeypatch: pytest.MonkeyPatch, apart: timedelta
) -> None:
    class Apart(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + apart

    now, wall = timezone.now, time.time
    monkeypatch.setattr("django.utils.timezone.now", lambda: now() + apart)
    monkeypatch.setattr(time, "time", lambda: wall() + apart.total_seconds())
    for module in ("runs.protocol.commands", "runs.commands.record"):
        monkeypatch.setattr(f"{module}.datetime", Apart, raising=False)
    command = send(lease.run_id, "stop", expires_in_s=60)
    monkeypatch.undo()
    expire_commands(lease.run_id)
    command.refresh_from_db()
    assert command.state == CommandState.SENT and command.expires_at is not None
    assert timedelta(seconds=30) < command.expires_at - timezone.now() <= timedelta(seconds=60)


def test_open_commands_end_with_the_attempt(lease: Lease) -> None:
    sent, delivered = send(lease.run_id, "pause"), send(lease.run_id, "stop", at={"step": 900})
    deliver_command(lease, delivered)
    end_attempt(lease, AttemptEnd(outcome=RunState.FAILED, exit_code=1))
    for command in (sent, delivered):
        command.refresh_from_db()
        assert command.state == CommandState.EXPIRED and "attempt ended" in command.outcome


def test_what_a_lost_attempt_had_is_not_left_open_by_the_next(lease: Lease) -> None:
    sent, delivered = send(lease.run_id, "pause"), send(lease.run_id, "stop")
    deliver_command(lease, delivered)
    Run.objects.filter(pk=lease.run_id).update(state=RunState.LOST)
    later = open_attempt(lease.run_id, HOLDER, 1, command_line=[])
    delivered.refresh_from_db()
    assert delivered.state == CommandState.EXPIRED
    assert delivered.outcome == "The attempt ended, but its end was not reported."
    assert [waiting.pk for waiting in open_commands(lease.run_id)] == [sent.pk]
    assert deliver_command(later, sent)


@pytest.fixture(autouse=True)
def quiet_layer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """These tests ignore messages of the channel layer."""
    monkeypatch.setattr("runs.recording.announcer.send", lambda group, message: None)
    yield
