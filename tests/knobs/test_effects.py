"""The client reports a knob's effective value again: a step after a change, and every second."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.utils import timezone

from runs.live.snapshot import run_snapshot
from runs.models import Command, CommandState, Project, StoredEvent
from runs.models import Run as RunRow
from runs.recording.lifecycle import Holder, Lease, open_attempt
from runs.recording.record_side.store import RecordSide
from steersman.agent.journals.merged import Journals
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.messages.reports import Position
from steersman.records.kinds import EffectRecord, KnobsRecord, OutcomeRecord
from steersman.records.posted import PostedCommand
from steersman.records.record import Record
from steersman.run import CLOCK_EVERY, Run, boundaries_until, worker_lock_path


class Scheduled:
    """An optimizer whose schedule decides the learning rate."""

    def __init__(self) -> None:
        self.rates = {"body": 0.05, "head": 0.1}

    def set(self, value: float, group: str) -> None:
        self.rates[group] = value

    def in_effect(self, group: str) -> float:
        return self.rates[group]

    def step(self, rate: float) -> None:
        self.rates = {"body": rate, "head": 2 * rate}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    return Run(tmp_path, 0, lock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, run: Run) -> SimpleNamespace:
    """The clock of the step boundary, which does not advance unless `now` is set."""
    clock = SimpleNamespace(now=run._effects_read_at)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("steersman.run.time", clock)
    return clock


def records(folder: Path, kind: type[Record]) -> list[Record]:
    found = JournalReader(segment_path(folder, 0, 0)).read(4 << 20, ended=True)
    return [record for record in found if isinstance(record, kind)]


def scheduled(run: Run) -> Scheduled:
    optimizer = Scheduled()
    run.knob("momentum", 0.9, minimum=0.0, maximum=1.0)
    run.knob("rate", optimizer.rates, minimum=1e-9, maximum=1.0, apply=optimizer.set, effective=optimizer.in_effect)
    return optimizer


def in_effect(record: Record) -> object:
    assert isinstance(record, KnobsRecord)
    return {knob["name"]: knob["effective"] for knob in record.knobs}


def test_a_step_after_a_change_its_outcome_is_corrected(run: Run, tmp_path: Path) -> None:
    optimizer, mailbox = scheduled(run), Mailbox(tmp_path)
    run.step = 7
    mailbox.post(PostedCommand(id="c1", command="set_knob", arguments={"knob": "rate", "value": 0.2}))
    mailbox.post(PostedCommand(id="c2", command="set_knob", arguments={"knob": "rate", "value": 0.3, "group": "head"}))
    assert not run.stopping
    # Two step boundaries without a step between them, as at the end of an epoch.
    assert not run.stopping
    optimizer.step(0.004)
    run.step = 8
    assert not run.stopping
    optimizer.step(0.003)
    run.step = 9
    assert not run.stopping
    told = [(each.id, each.effective, each.step) for each in records(tmp_path, OutcomeRecord)]
    assert told == [("c1", {"body": 0.2, "head": 0.2}, 7), ("c2", 0.3, 7)]
    # The second change replaced the first, whose outcome is final.
    assert [(each.id, each.effective, each.step) for each in records(tmp_path, EffectRecord)] == [("c2", 0.008, 8)]
    *_, last = records(tmp_path, KnobsRecord)
    assert last.partial and in_effect(last) == {"rate": {"body": 0.004, "head": 0.008}}


def test_a_schedule_that_goes_on_by_a_step_contradicts_no_outcome(run: Run, tmp_path: Path) -> None:
    optimizer = scheduled(run)
    Mailbox(tmp_path).post(
        PostedCommand(id="c1", command="set_knob", arguments={"knob": "rate", "value": 0.2, "group": "body"})
    )
    for step in range(1, 4):
        run.step = step
        assert not run.stopping
        optimizer.rates["body"] *= 0.999
    assert not records(tmp_path, EffectRecord) and not run._control.needs_attention


def test_every_second_it_is_told_what_has_moved(run: Run, tmp_path: Path, clock: SimpleNamespace) -> None:
    optimizer = scheduled(run)
    (declared,) = records(tmp_path, KnobsRecord)[1:]
    for step in range(1, 51):
        run.step = step
        clock.now += 0.1
        optimizer.step(0.5 / step)
        assert not run.stopping
    moved = records(tmp_path, KnobsRecord)[2:]
    assert all(each.partial for each in moved)
    assert [in_effect(each) for each in moved] == [
        {"rate": {"body": 0.5 / each.step, "head": 2 * 0.5 / each.step}} for each in moved
    ]
    steps = [0, *(each.step for each in moved), 51]
    assert all(later - earlier <= 13 for earlier, later in pairwise(steps)) and len(moved) <= 5
    assert in_effect(declared) == {"momentum": None, "rate": {"body": 0.05, "head": 0.1}}


def test_what_cannot_be_told_any_more_is_not_shown_and_ends_nothing(
    run: Run, tmp_path: Path, clock: SimpleNamespace
) -> None:
    optimizer = scheduled(run)
    optimizer.rates.clear()
    clock.now += 200
    for _ in range(CLOCK_EVERY):
        assert not run.stopping
    *_, last = records(tmp_path, KnobsRecord)
    assert in_effect(last) == {"rate": None}


def test_slow_steps_look_at_the_clock_more_often() -> None:
    assert boundaries_until(1.0, 128, 0.01) == CLOCK_EVERY
    assert boundaries_until(1.0, 128, 12.8) == 10
    assert boundaries_until(1.0, 1, 60.0) == 1
    assert boundaries_until(1.0, 0, 0.0) == CLOCK_EVERY


# The record


@pytest.fixture
def lease(db: None) -> Lease:
    row = RunRow.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="run")
    return open_attempt(row.pk, Holder("host", "boot", 1), 0, command_line=[])


def test_ledger_and_panel_say_what_is_in_effect(lease: Lease, run: Run, tmp_path: Path) -> None:
    optimizer = scheduled(run)
    command = Command.objects.create(
        id=uuid4(), run_id=lease.run_id, kind="set_knob", sent_at=timezone.now(), state=CommandState.DELIVERED
    )
    Mailbox(tmp_path).post(
        PostedCommand(id=str(command.pk), command="set_knob", arguments={"knob": "rate", "value": 0.2})
    )
    run.step = 1
    assert not run.stopping
    optimizer.step(0.004)
    run.step = 2
    assert not run.stopping
    ingest = Reporter(
        RecordSide(lease), tmp_path, Redactor(tmp_path / "data", tmp_path / "application", {}), StoredProgress()
    )
    ingest.store(Tick(read=Journals(tmp_path, {0: Position()}, {}).read(ended=True)))

    command.refresh_from_db()
    assert (command.state, command.step, command.effective_value) == ("applied", 1, {"body": 0.004, "head": 0.008})
    told = [knob["effective"] for knob in run_snapshot(RunRow.objects.get(pk=lease.run_id))["knobs"]]
    assert told == [None, {"body": 0.004, "head": 0.008}]
    kinds = list(StoredEvent.objects.filter(run=lease.run_id).order_by("seq").values_list("kind", flat=True))
    assert kinds.count("command") == 2 and kinds[-1] == "knobs"
