"""A command is passed to each host side until its training has it, or it has expired by the portal's clock."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.db.models.functions import Now

from runs.models import Checkpoint, Command, CommandState, Run, StoredEvent
from runs.protocol.commands import parse_command
from runs.recording.lifecycle import NOT_DELIVERED, Fenced, Holder, Lease, deliver_command, open_attempt
from runs.recording.record_side.orders import NOT_POSTED, record_asked, take_orders
from steersman.agent.supervise.interrupts import Interrupts
from steersman.agent.supervise.posting import Posting
from steersman.files.mailbox import Mailbox
from steersman.messages.orders import EndProcess, Post, SignalRequest
from tests.recording.test_reports import new_lease

pytestmark = pytest.mark.django_db(transaction=True)
# A step that is no id of a checkpoint.
ABANDONED = 9_999_999


@pytest.fixture
def lease() -> Lease:
    return new_lease()


def ask(lease: Lease, command: str, **fields: object) -> Command:
    from runs.commands.record import record

    request = parse_command({"command": command, **fields})
    return record(lease.run_id, request, author_id=None, author_name="Ada")


def test_a_command_that_no_training_has_is_handed_to_the_next_host_side_with_the_seconds_that_are_left(lease):
    never, soon = ask(lease, "pause"), ask(lease, "pause", expires_in_s=60)
    first = take_orders(lease, ())
    assert [(order.command.id, order.expires_in_s is None) for order in first if isinstance(order, Post)] == [
        (str(never.pk), True),
        (str(soon.pk), False),
    ]
    Command.objects.filter(pk=soon.pk).update(expires_at=Now() + timedelta(seconds=20))
    (again,) = take_orders(lease, {str(never.pk)})
    assert isinstance(again, Post) and again.command.id == str(soon.pk)
    assert again.expires_in_s is not None and 0 < again.expires_in_s <= 20
    assert take_orders(lease, {str(never.pk), str(soon.pk)}) == []


def test_a_command_that_no_training_has_expires_by_the_clock_of_the_portal(lease):
    lost, held = ask(lease, "pause", expires_in_s=60), ask(lease, "pause", expires_in_s=60)
    assert len(take_orders(lease, ())) == 2
    Command.objects.filter(run_id=lease.run_id).update(expires_at=Now() - timedelta(seconds=1))
    assert take_orders(lease, {str(held.pk)}) == []
    lost.refresh_from_db()
    held.refresh_from_db()
    assert (lost.state, lost.outcome) == (CommandState.EXPIRED, NOT_POSTED)
    # The training decides about commands that it has received.
    assert held.state == CommandState.DELIVERED


def test_a_command_that_expires_while_the_others_are_handed_on_is_not_handed_on(lease, monkeypatch):
    soon = ask(lease, "pause", expires_in_s=60)

    def expire_at_once(run_id: int | None = None) -> None:
        """Let the command expire just after `expire_commands` has run."""
        Command.objects.filter(pk=soon.pk).update(expires_at=Now() - timedelta(seconds=1))

    monkeypatch.setattr("runs.recording.record_side.orders.expire_commands", expire_at_once)
    assert take_orders(lease, ()) == []
    soon.refresh_from_db()
    assert (soon.state, soon.outcome) == (CommandState.EXPIRED, NOT_DELIVERED)


def test_a_command_that_expires_while_its_delivery_waits_for_the_database_is_not_handed_on(lease, monkeypatch):
    """A database that is locked for longer than a command is valid must not make the command valid for longer."""
    soon, later = ask(lease, "pause", expires_in_s=60), ask(lease, "pause", expires_in_s=60)
    left_s = {soon.pk: -1, later.pk: 20}

    def deliver_late(lease: Lease, command: Command) -> bool:
        delivered = deliver_command(lease, command)
        Command.objects.filter(pk=command.pk).update(expires_at=Now() + timedelta(seconds=left_s[command.pk]))
        return delivered

    monkeypatch.setattr("runs.recording.record_side.orders.deliver_command", deliver_late)
    (order,) = take_orders(lease, ())
    assert isinstance(order, Post) and order.command.id == str(later.pk)
    assert order.expires_in_s is not None and 0 < order.expires_in_s <= 20
    soon.refresh_from_db()
    assert (soon.state, soon.outcome) == (CommandState.EXPIRED, NOT_POSTED)


def test_what_a_signal_asked_is_recorded_once(lease, tmp_path: Path):
    Run.objects.filter(pk=lease.run_id).update(handled_commands=["save_checkpoint"])
    interrupts = Interrupts()
    said: list[str] = []
    posting = Posting(Mailbox(tmp_path), interrupts, said.append)
    assert not posting.signals_wait
    interrupts.stops, interrupts.name, interrupts.saves = 1, "SIGTERM", 1
    posting.post_signals()
    assert not posting.signals_wait and len(said) == 1
    posting.post_signals()
    posting.post_stop()
    assert [command.command for command in Mailbox(tmp_path).commands()] == ["stop", "save_checkpoint"]
    for asked in posting.asked * 2:
        record_asked(lease, asked)
    recorded = Command.objects.filter(run_id=lease.run_id).order_by("sent_at")
    # They are in the mailbox already, so they are delivered, and none is passed on a second time.
    assert list(recorded.values_list("kind", "author_name", "state", "attempt")) == [
        ("stop", "SIGTERM", "delivered", lease.number),
        ("save_checkpoint", "SIGUSR1", "delivered", lease.number),
    ]
    told = StoredEvent.objects.filter(run_id=lease.run_id, kind="command").order_by("seq")
    assert [json.loads(event.frame)["state"] for event in told] == ["sent", "delivered"] * 2
    assert take_orders(lease, posting.posted) == []


def test_a_process_that_is_to_be_ended_is_no_command_of_its_training(lease, tmp_path: Path):
    mailbox = Mailbox(tmp_path)
    posting = Posting(mailbox, Interrupts(), print)
    posting.obey(EndProcess("Ada"), 0.0)
    assert posting.ended_by == "Ada" and mailbox.commands() == []


def test_an_overtaken_host_side_gets_no_orders(lease):
    ask(lease, "pause")
    open_attempt(lease.run_id, Holder("other", "boot", 2), lease.number, command_line=[])
    with pytest.raises(Fenced):
        take_orders(lease, ())
    with pytest.raises(Fenced):
        record_asked(lease, SignalRequest(str(uuid4()), "stop", "SIGTERM"))


def test_a_roll_back_is_handed_on_with_the_checkpoint_that_it_goes_to(lease):
    Run.objects.filter(pk=lease.run_id).update(handled_commands=["roll_back"])
    for step, reason, abandoned in ((10, "best", False), (20, "last", False), (ABANDONED, "best", True)):
        Checkpoint.objects.create(
            run_id=lease.run_id, attempt=lease.number, step=step, epoch=step // 10, name=f"at-{step}", reason=reason,
            path=f"attempts/1/checkpoints/step-{step}", sha256=f"{step:064}", size_bytes=1, abandoned=abandoned,
            created_at=Now(),
        )  # fmt: skip
    asked = {
        wanted: ask(lease, "roll_back", arguments={"checkpoint": wanted})
        for wanted in ("newest", "best", str(ABANDONED))
    }
    newest, best = take_orders(lease, ())
    assert isinstance(newest, Post) and newest.command.arguments == {
        "checkpoint": "at-20", "path": "attempts/1/checkpoints/step-20", "sha256": f"{20:064}", "step": 20, "epoch": 2,
        "has_manifest": True, "keep_knobs": False, "knob": "", "value": None, "factor": None, "group": "",
        "skip_batches": 0, "skip_from": None,
    }  # fmt: skip
    assert isinstance(best, Post) and best.command.arguments["step"] == 10
    left = Command.objects.get(pk=asked[str(ABANDONED)].pk)
    assert left.state == CommandState.REFUSED
    assert left.outcome.startswith(f"This run has no checkpoint {ABANDONED} to roll back to: choose one of")
    # Of what its training has, nobody asks once more which checkpoint it is.
    Checkpoint.objects.all().delete()
    assert take_orders(lease, {newest.command.id, best.command.id}) == []
    assert Command.objects.get(pk=asked["newest"].pk).state == CommandState.DELIVERED


def test_a_roll_back_that_waits_for_its_step_is_handed_on_before_its_checkpoint_exists(lease):
    Run.objects.filter(pk=lease.run_id).update(handled_commands=["roll_back"])
    done = ask(lease, "roll_back")
    Command.objects.filter(pk=done.pk).update(state=CommandState.APPLIED, attempt=lease.number)
    at = {"step": 40, "roll_backs": 3}
    early = ask(lease, "roll_back", arguments={"checkpoint": "30"}, at=at)
    (order,) = take_orders(lease, ())
    assert isinstance(order, Post) and order.command.id == str(early.pk)
    told = order.command.arguments
    assert (told["wanted"], told["path"], told["has_manifest"]) == ("30", "", False)
    assert (order.command.at_step, order.command.at_roll_backs) == (40, 3)
    # The next attempt counts its own rollbacks alone.
    next_lease = open_attempt(lease.run_id, Holder("host", "boot", 1), lease.number, command_line=[])
    Run.objects.filter(pk=lease.run_id).update(handled_commands=["roll_back"])
    later = ask(next_lease, "roll_back", arguments={"checkpoint": "30"}, at=at)
    (order,) = take_orders(next_lease, ())
    assert isinstance(order, Post) and (order.command.id, order.command.at_roll_backs) == (str(later.pk), 2)
    late = ask(next_lease, "pause", at={"step": 40, "roll_backs": 0})
    assert (late.state, late.outcome) == (
        CommandState.REFUSED, "at.roll_backs is 0, but the run has already been rolled back 1 times. Give at least 1."
    )  # fmt: skip
