"""The ledger of a run, read from its events: what was done where, in which lap, and what a restart leaves of it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from runs.commands.record import record
from runs.models import Attempt, Checkpoint, Command, CommandState, Run
from runs.protocol.commands import parse_command
from runs.protocol.events import CheckpointSaved, EpochDone, iso
from runs.recording import feed
from runs.recording.checkpoints import roll_back
from runs.recording.lifecycle import Holder, Lease, complete_command, deliver_command, open_attempt
from runs.replaying.ledger import Applied, Kept, Ledger, Saved, ledger_of
from runs.replaying.repeatable import cannot_repeat
from runs.replaying.replay import requests
from tests.recording.test_reports import new_lease

pytestmark = pytest.mark.django_db


class Story:
    """Records what a training would report, in its order."""

    def __init__(self) -> None:
        self.lease: Lease = new_lease()
        self._offer()

    def _offer(self) -> None:
        kinds = ["roll_back", "save_checkpoint", "extend"]
        Run.objects.filter(pk=self.lease.run_id).update(handled_commands=kinds)

    @property
    def run(self) -> Run:
        return Run.objects.get(pk=self.lease.run_id)

    def applied(self, kind: str, step: int, new: Any = None, effective: Any = None, **arguments: Any) -> Command:
        request = parse_command({"command": kind, "arguments": arguments})
        command = record(self.lease.run_id, request, author_id=None, author_name="Ada")
        deliver_command(self.lease, command)
        assert complete_command(command, CommandState.APPLIED, step=step, new=new, effective=effective)
        return command

    def turn(self, step: int, value: float) -> Command:
        return self.applied("set_knob", step, value, knob="rate", value=value)

    def back(self, step: int, to: Checkpoint, rate: float) -> None:
        new = {"step": to.step}
        self.applied("roll_back", step, new, {"rate": {"": rate}}, checkpoint=str(to.pk))
        event, _ = roll_back(self.lease.run_id, self.lease.number, step=to.step, left=step, epoch=0)
        feed.append(self.lease.run_id, event)

    def saved(self, step: int, name: str = "last", reason: str = "last") -> Checkpoint:
        row = Checkpoint.objects.create(
            run_id=self.lease.run_id, attempt=self.lease.number, step=step, epoch=0, name=name, reason=reason,
            path=f"attempts/{self.lease.number}/{uuid4()}", sha256="0" * 64, size_bytes=1, created_at=timezone.now(),
        )  # fmt: skip
        event = CheckpointSaved(
            id=row.pk, attempt=row.attempt, step=step, epoch=0, created_at=iso(row.created_at), name=name,
            size_bytes=1, sha256=row.sha256, reason=reason,
        )  # fmt: skip
        feed.append(self.lease.run_id, event)
        return row

    def epoch(self, epoch: int, step: int) -> None:
        feed.append(self.lease.run_id, EpochDone(attempt=self.lease.number, epoch=epoch, step=step, values={}))

    def resume(self, at: Checkpoint | None) -> None:
        run = self.lease.run_id
        self.lease = open_attempt(run, Holder("host", "boot", 1), self.lease.number, command_line=[], resumed_from=at)
        self._offer()


def told(ledger: Ledger) -> list[tuple[str, int, int | None, int]]:
    """Return what happened, its step, its epoch and the number of rollbacks before it."""
    found = []
    for entry in ledger.entries:
        match entry.what:
            case Applied(command=command):
                name = f"{command.kind} {command.new_value}" if command.kind == "set_knob" else command.kind
            case Saved(name=saved):
                name = f"saved {saved}"
            case Kept(value=value):
                name = f"kept {value}"
        found.append((name, entry.place.step, entry.place.epoch, entry.place.roll_backs))
    return found


def test_a_place_is_a_step_of_a_lap_and_the_epoch_that_ended_there() -> None:
    story = Story()
    story.turn(0, 0.1)
    story.turn(10, 0.2)
    story.epoch(1, 10)
    first = story.saved(10)
    story.turn(10, 0.3)
    story.saved(20)
    story.back(25, first, 0.2)
    story.turn(10, 0.4)
    story.turn(25, 0.5)
    assert told(ledger_of(story.run)) == [
        ("set_knob 0.1", 0, None, 0),
        ("set_knob 0.2", 10, None, 0),
        ("saved last", 10, 1, 0),
        ("set_knob 0.3", 10, 1, 0),
        ("saved last", 20, None, 0),
        ("roll_back", 25, None, 0),
        ("set_knob 0.4", 10, None, 1),
        ("set_knob 0.5", 25, None, 1),
    ]
    # A script saves its checkpoints itself: the new run goes back to the one of the same step.
    new = Run.objects.create(project=story.run.project, name="new")
    asked = [each.request for each in requests(story.run, new, ledger_of(story.run))]
    assert [(each.command.kind, each.at_step, each.at_epoch, each.at_roll_backs) for each in asked] == [
        ("set_knob", None, None, None),
        ("set_knob", 10, None, 0),
        ("set_knob", 10, 1, 0),
        ("roll_back", 25, None, 0),
        ("set_knob", 10, None, 1),
        ("set_knob", 25, None, 1),
    ]
    assert asked[3].command.checkpoint == "10"


def test_a_restart_leaves_out_what_it_lost_but_for_the_values_of_knobs_and_added_epochs() -> None:
    story = Story()
    story.turn(5, 0.1)
    first = story.saved(10)
    story.saved(12)
    story.back(14, first, 0.1)
    kept = story.saved(20)
    story.turn(20, 0.2)
    story.turn(25, 0.3)
    story.applied("extend", 26, epochs=2)
    story.saved(30, "lost", "named")
    story.back(33, kept, 0.3)
    story.turn(22, 0.4)
    story.resume(kept)
    story.turn(40, 0.5)
    ledger = ledger_of(story.run)
    assert told(ledger) == [
        ("set_knob 0.1", 5, None, 0),
        ("saved last", 10, None, 0),
        ("saved last", 12, None, 0),
        ("roll_back", 14, None, 0),
        ("saved last", 20, None, 1),
        ("extend", 20, None, 1),
        ("kept 0.4", 20, None, 1),
        ("set_knob 0.5", 40, None, 1),
    ]
    assert ledger.unknown_origins == []
    # An attempt that starts over begins with nothing but the added epochs.
    story.resume(None)
    story.turn(3, 0.6)
    assert told(ledger_of(story.run)) == [("extend", 0, None, 0), ("set_knob 0.6", 3, None, 0)]


def test_what_cannot_repeat_is_named() -> None:
    story = Story()
    story.turn(5, 0.1)
    other = Story()
    story.resume(other.saved(10))
    Attempt.objects.filter(run=story.run, number=1).update(environment={"git": {"commit": "a" * 40}})
    Attempt.objects.filter(run=story.run, number=2).update(
        environment={"git": {"commit": "b" * 40}, "gpus": ["NVIDIA"]}, ranks=4
    )
    said = cannot_repeat(story.run, ledger_of(story.run))
    assert said == [
        "The run is still training: commands from now on are not repeated.",
        "Attempt 2 resumed at step 10 from a checkpoint of another run, which the new run cannot repeat.",
        "The run trains its own script: the script must seed its random numbers, must not depend on the time, "
        "and must be started with the same arguments.",
        "The attempts of the run used different code, but a replay uses only one version.",
        "Attempt 2 trained with 4 ranks, and a replay trains with 1.",
        "The run trained on a GPU without deterministic algorithms: values may differ in their last digits.",
        "The run was resumed: its curve repeats only if the script restores everything from its checkpoint.",
    ]
