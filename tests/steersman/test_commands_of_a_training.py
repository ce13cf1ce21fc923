"""How a training handles commands at its step boundary: each outcome, and that none ends the training."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from steersman.commands import Control, Done, Refusal
from steersman.files.journal import segment_path
from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.knobs import Knob
from steersman.records.kinds import OutcomeState, State
from steersman.records.posted import PostedCommand
from steersman.run import Run, worker_lock_path
from steersman.spec import ValueSpec


class Told:
    """An outcome recorder that keeps the outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[dict[str, Any]] = []
        self.states: list[str] = []
        self.knobs = 0

    def record_outcome(self, command: PostedCommand, state: OutcomeState, done: Done, ranks: int | None = None) -> None:
        self.outcomes.append({
            "id": command.id, "command": command.command, "state": state, "old": done.old, "new": done.new,
            "effective": done.effective, "ranks": ranks, "reason": done.remark,
        })  # fmt: skip

    def record_state(self, state: State) -> None:
        self.states.append(state)

    def record_knobs(self) -> None:
        self.knobs += 1

    def record_effect(self, command_id: str, effective: object) -> None:
        raise AssertionError("nothing here moves what is in effect")

    @property
    def last(self) -> dict[str, Any]:
        return self.outcomes[-1]

    @property
    def in_short(self) -> list[tuple[str, str]]:
        return [(outcome["id"], outcome["state"]) for outcome in self.outcomes]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def control(told: Told) -> Control:
    control = Control(told, ranks=2)
    control.knobs.add(Knob(ValueSpec("rate", "float", minimum=0.0, maximum=1.0), 0.1, effective=lambda: 0.05))
    return control


def asked(command: str, key: str = "c1", **fields: Any) -> PostedCommand:
    arguments = {name: fields.pop(name) for name in list(fields) if name in ARGUMENTS}
    return PostedCommand(id=key, command=command, arguments=arguments, author="Ada", **fields)


ARGUMENTS = {"checkpoint", "knob", "value", "factor", "group", "name", "epochs", "text"}


def test_it_sets_a_knob_and_tells_old_new_effect_and_ranks(control: Control, told: Told) -> None:
    control.take([asked("set_knob", knob="rate", value=0.2)], 7, 0)
    assert told.last == {
        "id": "c1", "command": "set_knob", "state": "applied", "old": 0.1, "new": 0.2, "effective": 0.05, "ranks": 2,
        "reason": "",
    }  # fmt: skip
    assert control.knobs.named("rate").value == 0.2 and told.knobs == 1


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (asked("set_knob", knob="rate", value=2), "rate takes a number from 0 to 1, not 2."),
        (asked("set_knob", knob="rate", value="much"), "rate takes a number from 0 to 1, not 'much'."),
        (asked("set_knob", knob="rate", value=float("nan")), "rate takes a number from 0 to 1, not nan."),
        (asked("set_knob", knob="rate", value=True), "rate takes a number from 0 to 1, not true."),
        (asked("set_knob", knob="rat", value=0.2), "This training has no knob 'rat': it has rate."),
        (asked("set_knob", knob="rate", value=0.2, group="head"), "rate has no parameter group 'head'"),
        (asked("set_knob", knob="rate", value=0.2, expected_value=0.3), "rate was expected to be 0.3, but it is 0.1."),
        (asked("pause", expected_state="paused"), "The run was expected to be paused, but it is running."),
        (asked("resume"), "The run is not paused."),
        (asked("set_knob", knob="rate", value=0.2, at_step=6), "Step 6 has passed: the training was at step 7."),
        (asked("stop", at_epoch=1), "Epoch 1 has passed: the training had completed epoch 2."),
        (asked("save_checkpoint"), "This training cannot save a checkpoint on command"),
        (asked("evaluate"), "This training cannot evaluate on command"),
        (asked("extend", epochs=1), "This training cannot be extended"),
        (asked("dance"), "This training does not support the command dance."),
        (asked("set_knob"), "SetKnobArguments.knob is missing"),
        (asked("set_knob", knob="rate", factor="twice"), "SetKnobArguments.factor: 'twice' is not a 64-bit number"),
        (asked("stop", checkpoint="no"), "StopArguments.checkpoint: 'no' is neither true nor false"),
        (asked("cancel"), "CancelArguments.command is missing"),
    ],
)
def test_it_refuses_in_a_sentence_and_changes_nothing(
    control: Control, told: Told, command: PostedCommand, reason: str
) -> None:
    control.take([command], 7, 2)
    assert told.last["state"] == "refused" and told.last["reason"].startswith(reason)
    assert told.last["ranks"] is None and told.last["new"] is None
    assert control.knobs.named("rate").value == 0.1 and not control.stopping and not control.paused
    assert told.states == [] and told.knobs == 0


def test_a_setter_that_raises_is_refused_with_the_reason_and_put_back(told: Told) -> None:
    control = Control(told)
    at_work = [0.1]

    def apply(value: float) -> None:
        at_work[0] = value
        if value > 0.5:
            raise RuntimeError("cuda is unhappy\nat length")

    control.knobs.add(Knob(ValueSpec("rate", "float"), 0.1, apply=apply))
    control.take([asked("set_knob", knob="rate", value=0.9), asked("set_knob", "c2", knob="rate", value=0.3)], 1, 0)
    assert told.in_short == [("c1", "refused"), ("c2", "applied")]
    assert "RuntimeError: cuda is unhappy)" in told.outcomes[0]["reason"]
    assert told.last["old"] == 0.1 and at_work == [0.3]


def test_handlers_do_what_only_the_training_can(control: Control, told: Told) -> None:
    given: list[dict[str, Any]] = []
    control.on("save_checkpoint", given.append)
    control.on("evaluate", lambda arguments: "on 10 batches")
    control.on("extend", lambda arguments: Done(old=2, new=2 + arguments["epochs"]))
    commands = [asked("save_checkpoint", name="before"), asked("evaluate", "c2"), asked("extend", "c3", epochs=3)]
    control.take(commands, 1, 0)
    assert [outcome["state"] for outcome in told.outcomes] == ["applied"] * 3
    assert given == [{"name": "before"}] and told.outcomes[1]["reason"] == "on 10 batches"
    assert (told.last["old"], told.last["new"]) == (2, 5)


@pytest.mark.parametrize(
    ("error", "reason"), [(Refusal("no room on disk"), "no room on disk"), (OSError("full"), "OSError: full")]
)
def test_what_a_handler_raises_refuses_the_command(control: Control, told: Told, error: Exception, reason: str) -> None:
    def fail(arguments: dict[str, Any]) -> None:
        raise error

    control.on("evaluate", fail)
    control.take([asked("evaluate"), asked("note", "c2", text="on we go")], 1, 0)
    assert told.in_short == [("c1", "refused"), ("c2", "applied")] and reason in told.outcomes[0]["reason"]


def test_pause_and_resume_are_told_and_everything_works_between(control: Control, told: Told) -> None:
    commands = [
        asked("pause"),
        asked("pause", "c2"),
        asked("set_knob", "c3", knob="rate", value=0.2, expected_state="paused"),
        asked("resume", "c4"),
    ]
    control.take(commands, 3, 0)
    assert [state for _, state in told.in_short] == ["applied", "refused", "applied", "applied"]
    assert told.states == ["paused", "running"] and not control.paused
    control.take([asked("stop", "c5", checkpoint=False), asked("pause", "c6")], 3, 0)
    assert control.stopping and not control.saves_on_stop and not control.paused
    assert told.last["reason"] == "The run is stopping."


def test_a_command_waits_for_its_step(control: Control, told: Told) -> None:
    control.take([asked("set_knob", knob="rate", value=0.2, at_step=10), asked("note", "c2", text="x")], 8, 0)
    assert told.in_short == [("c2", "applied")] and control.needs_attention
    control.apply_due(9, 0)
    assert len(told.outcomes) == 1
    control.apply_due(10, 0)
    assert told.in_short[1:] == [("c1", "applied")]
    # The effective value is compared again a step later.
    assert control.needs_attention
    control.correct_effects(11)
    assert not control.needs_attention
    control.apply_due(11, 0)
    assert len(told.outcomes) == 2


def test_a_command_that_waited_is_applied_where_its_step_had_no_step_boundary(control: Control, told: Told) -> None:
    control.take([asked("stop", at_step=15)], 10, 0)
    control.apply_due(20, 0)
    assert told.in_short == [("c1", "applied")] and control.stopping


def test_a_command_waits_for_its_epoch_and_may_name_the_present_place(control: Control, told: Told) -> None:
    control.take([asked("pause", at_epoch=2), asked("note", "c2", text="x", at_step=40)], 40, 1)
    assert told.in_short == [("c2", "applied")]
    control.apply_due(79, 1)
    assert not control.paused
    control.apply_due(80, 2)
    assert told.in_short[1:] == [("c1", "applied")] and control.paused


def test_a_condition_is_judged_at_the_moment_of_effect(control: Control, told: Told) -> None:
    control.take([asked("set_knob", knob="rate", value=0.3, expected_value=0.2, at_step=5)], 1, 0)
    control.take([asked("set_knob", "c2", knob="rate", value=0.2)], 2, 0)
    control.apply_due(5, 0)
    assert told.in_short == [("c2", "applied"), ("c1", "applied")]


def test_what_has_expired_is_not_applied(control: Control, told: Told) -> None:
    past, future = time.monotonic() - 1, time.monotonic() + 1000
    control.take(
        [asked("stop", expires_monotonic_s=past), asked("note", "c2", text="x", expires_monotonic_s=future)], 1, 0
    )
    assert told.in_short == [("c1", "expired"), ("c2", "applied")] and not control.stopping
    assert told.outcomes[0]["reason"] == "The command was not applied before it expired."


def test_what_expires_while_it_waits_ends_there(control: Control, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asked("stop", at_step=50, expires_monotonic_s=time.monotonic() + 1000)
    control.take([waiting], 1, 0)
    control.apply_due(2, 0)
    assert control.needs_attention
    late = time.monotonic() + 1001
    monkeypatch.setattr(time, "monotonic", lambda: late)
    control.apply_due(3, 0)
    assert told.in_short == [("c1", "expired")] and not control.needs_attention


def test_a_command_that_waits_can_be_withdrawn(control: Control, told: Told) -> None:
    control.take([asked("stop", at_step=50)], 1, 0)
    control.take([PostedCommand(id="c2", command="cancel", arguments={"command": "c1"}, author="Ben")], 2, 0)
    assert told.in_short == [("c1", "expired"), ("c2", "applied")]
    assert told.outcomes[0]["reason"] == "The command was cancelled."
    control.apply_due(50, 0)
    assert not control.stopping
    control.take([PostedCommand(id="c3", command="cancel", arguments={"command": "c1"}, author="Ben")], 51, 0)
    assert told.last["state"] == "refused" and "already" in told.last["reason"]


def test_signals_ask_like_commands_and_leave_no_row(control: Control, told: Told) -> None:
    assert "cannot save a checkpoint on command" in control.do("save_checkpoint", 1, 0)
    saved: list[Any] = []
    control.on("save_checkpoint", saved.append)
    assert control.do("save_checkpoint", 1, 0) == "" and saved == [{}]
    assert told.outcomes == []


@pytest.fixture
def run(tmp_path: Path) -> Run:
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    return Run(tmp_path, 0, lock)


def test_a_torn_line_in_the_mailbox_costs_that_command_alone(run: Run, tmp_path: Path) -> None:
    """A full disk, or a supervisor killed in the middle of a line, must not end the training."""
    mailbox = Mailbox(tmp_path)
    mailbox.post(asked("note", text="first"))
    with (tmp_path / "commands.jsonl").open("ab") as file:
        file.write(b'{"id": "torn", "comm')
    mailbox.post(asked("stop", "c2"))
    assert run.stopping
    assert [command.id for command in Mailbox(tmp_path).commands()] == ["c1", "c2"]


def test_an_outcome_is_announced_behind_its_record(run: Run, tmp_path: Path) -> None:
    """The supervisor reads as soon as it sees the count, so the record must be there first."""
    mailbox = Mailbox(tmp_path)
    mailbox.post(asked("note", text="x"))
    path = segment_path(tmp_path, 0, 0)
    before = path.stat().st_size
    assert mailbox.outcomes == 0 and not run.stopping and mailbox.outcomes == 1
    assert path.stat().st_size > before


def test_a_line_that_the_disk_took_in_part_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox(tmp_path)
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    with pytest.raises(OSError, match="space"):
        mailbox.post(asked("stop"))
    monkeypatch.undo()
    assert mailbox.posted[0] == 0 and mailbox.commands() == []
    mailbox.post(asked("stop"))
    assert [command.id for command in mailbox.new_commands()] == ["c1"]


def test_what_a_step_boundary_reads_lies_in_slots(run: Run) -> None:
    """In the instance's dictionary the lookup would take three times as long once `log` is there."""
    run.log(1, loss=0.5)
    assert "log" in vars(run)
    read = set(Run.stopping.fget.__code__.co_names) - {"_at_step_boundary"}  # type: ignore[attr-defined]
    assert read and read <= set(Run.__slots__) and not read & set(vars(run))


def test_a_signal_that_comes_while_the_step_boundary_works_is_heard_at_the_next(run: Run, tmp_path: Path) -> None:
    saved: list[Any] = []
    run.on("save_checkpoint", saved.append)
    run.on("evaluate", lambda arguments: run.request("save_checkpoint"))
    Mailbox(tmp_path).post(asked("evaluate"))
    assert not run.stopping and saved == []
    assert not run.stopping and saved == [{}]
