"""A tick is stored once, even if the answer is lost, and only for the supervisor that attached last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runs.models import Attempt, Checkpoint, Command, JournalOffset, Project, Run, StoredEvent
from runs.recording.lifecycle import Holder, Lease, open_attempt
from runs.recording.record_side import continuing
from runs.recording.record_side.continuing import NotContinued, Superseded
from runs.recording.record_side.store import RecordSide
from steersman.agent.journals.merged import Journals, JournalsRead
from steersman.agent.machine.redactor import Redactor
from steersman.agent.reporting.reporter import Reporter, StoredProgress
from steersman.agent.reporting.ticks import Tick
from steersman.files.journal import JournalWriter
from steersman.messages.reports import Position
from steersman.records.kinds import CheckpointRecord, DroppedRecord, EpochRecord, NoteRecord, OutcomeRecord

pytestmark = pytest.mark.django_db(transaction=True)


def new_lease() -> Lease:
    project, _ = Project.objects.get_or_create(name="Lab", slug="lab")
    run = Run.objects.create(project=project, name="run")
    return open_attempt(run.pk, Holder("host", "boot", 1), 0, command_line=[])


def supervisor_of(lease: Lease, folder: Path) -> Reporter:
    return Reporter(RecordSide(lease), folder, Redactor(folder / "data", folder / "application", {}), StoredProgress())


@pytest.fixture
def lease() -> Lease:
    return new_lease()


@contextmanager
def answer_lost() -> Iterator[None]:
    """Let the next transaction be committed, and break the connection before the answer arrives."""
    commit = connection.commit

    def commit_and_break() -> None:
        connection.commit = commit
        commit()
        raise OperationalError("the server closed the connection unexpectedly")

    connection.commit = commit_and_break
    try:
        with pytest.raises(OperationalError):
            yield
    finally:
        connection.commit = commit


def steps_of(lease: Lease) -> list[int]:
    frames = (
        StoredEvent.objects.filter(run_id=lease.run_id, kind="metrics").order_by("seq").values_list("frame", flat=True)
    )
    return [step for frame in frames for block in json.loads(frame)["blocks"] for step in block["steps"]]


def rows_of(lease: Lease) -> tuple[object, ...]:
    """Return everything that a report could change, except the heartbeat."""
    run = Run.objects.get(pk=lease.run_id)
    attempt = Attempt.objects.get(pk=lease.attempt_id)
    offsets = JournalOffset.objects.filter(attempt=attempt).order_by("rank", "segment")
    places = [(each.rank, each.segment, each.offset, each.next_number) for each in offsets]
    return run.last_seq, run.step, attempt.reports, attempt.last_step, attempt.unreadable_records, places


def test_a_tick_whose_commit_was_not_answered_is_stored_once(lease, tmp_path):
    writer = JournalWriter(tmp_path)
    log = writer.encoder(("loss",))
    ingest = supervisor_of(lease, tmp_path)
    attached = ingest.attach()
    journals = Journals(tmp_path, attached.positions, attached.last_steps)
    log(1, [0.5])
    tick = Tick(read=journals.read())
    with answer_lost():
        ingest.store(tick)
    assert steps_of(lease) == [1] and ingest.under_way is tick
    log(2, [0.25])
    ingest.store(tick)
    journals.advance(tick.read)
    ingest.store(Tick(read=journals.read()))
    assert steps_of(lease) == [1, 2] and ingest.under_way is None


def test_a_record_that_is_set_aside_without_an_answer_is_set_aside_once(lease, tmp_path):
    JournalWriter(tmp_path).append(NoteRecord(step=1, text="deadly"))
    ingest = supervisor_of(lease, tmp_path)
    journals = Journals(tmp_path, ingest.attach().positions, {})
    deadly = journals.read(most=1)
    with answer_lost():
        ingest.set_aside(deadly, "KeyError: 'x'")
    ingest.set_aside(deadly, "KeyError: 'x'")
    assert Attempt.objects.get(pk=lease.attempt_id).set_aside_records == 1


def test_records_above_the_bound_of_the_journal_count_as_dropped_with_their_own_cause(lease, tmp_path):
    writer = JournalWriter(tmp_path)
    writer.append(DroppedRecord(records=7, above_bound=True))
    writer.append(DroppedRecord(records=2))
    ingest = supervisor_of(lease, tmp_path)
    ingest.store(Tick(read=Journals(tmp_path, ingest.attach().positions, {}).read()))
    assert Attempt.objects.get(pk=lease.attempt_id).dropped_records == 9
    frames = StoredEvent.objects.filter(kind="log").values_list("frame", flat=True)
    shown = [(line["text"], line["level"]) for frame in frames for line in json.loads(frame)["lines"]]
    assert [level for _, level in shown] == ["warning", "error"]
    assert shown[0][0].startswith("7 step records were left out") and "STEERSMAN_JOURNAL_MIB" in shown[0][0]
    assert shown[1][0].startswith("2 records could not be written")


def test_the_supervisor_that_attached_before_stores_nothing_more(lease, tmp_path):
    first, second = supervisor_of(lease, tmp_path), supervisor_of(lease, tmp_path)
    first.attach()
    assert second.attach().next_report == 1
    before = rows_of(lease)
    with pytest.raises(Superseded):
        first.store(Tick(read=JournalsRead([NoteRecord(step=1, text="late")], {0: Position(0, 100, 1)})))
    assert rows_of(lease) == before


def test_what_a_database_lost_is_read_again(lease, tmp_path):
    """A server failed over to a copy that is slightly behind: the journal still contains what it lost."""
    writer = JournalWriter(tmp_path)
    log = writer.encoder(("loss",))
    ingest = supervisor_of(lease, tmp_path)
    journals = Journals(tmp_path, ingest.attach().positions, {})
    ticks = []
    for step in (1, 2, 3):
        log(step, [0.5])
        ticks.append(Tick(read=journals.read()))
        if step == 2:
            # Nothing else commits it.
            with transaction.atomic():
                ingest.store(ticks[-1])
                transaction.set_rollback(True)
        else:
            stored = ingest.store(ticks[-1])
        journals.advance(ticks[-1].read)
    assert ingest.under_way is ticks[-1] and stored.number == 1
    again = ingest.attach()
    assert again.positions == stored.positions
    ingest.store(Tick(read=Journals(tmp_path, again.positions, again.last_steps).read()))
    assert steps_of(lease) == [1, 2, 3]


def test_a_sample_after_a_new_supervisor_has_attached_has_the_step_of_the_training(lease, tmp_path):
    log = JournalWriter(tmp_path).encoder(("loss",))
    log(7, [0.5])
    first = supervisor_of(lease, tmp_path)
    first.store(Tick(read=Journals(tmp_path, first.attach().positions, {}).read()))
    supervisor_of(lease, tmp_path).store(Tick(system={"host/cpu": 0.5}))
    assert json.loads(StoredEvent.objects.get(run_id=lease.run_id, kind="system").frame)["step"] == 7


@pytest.mark.parametrize("at_once", [True, False])
def test_points_that_follow_a_roll_back_in_the_same_report_are_the_newest(lease, tmp_path, at_once):
    writer = JournalWriter(tmp_path)
    log = writer.encoder(("loss",))
    log(1, [0.5])
    log(2, [0.4])
    writer.append(OutcomeRecord(step=2, id=None, command="roll_back", state="applied", to_step=1, to_epoch=0))
    log(2, [0.3])
    log(3, [0.2])
    ingest = supervisor_of(lease, tmp_path)
    journals = Journals(tmp_path, ingest.attach().positions, {})
    while (read := journals.read(most=None if at_once else 1)) is not None:
        ingest.store(Tick(read=read))
        journals.advance(read)
    told = StoredEvent.objects.filter(run_id=lease.run_id).exclude(kind="status").order_by("seq")
    frames = [json.loads(frame) for frame in told.values_list("frame", flat=True)]
    places = [(each["kind"], each["step"]) for each in frames]
    assert places[-2 if at_once else -3 :] == (
        [("rolled_back", 1), ("metrics", 3)] if at_once else [("rolled_back", 1), ("metrics", 2), ("metrics", 3)]
    )
    laps = [
        (step, block.get("laps", {}).get("loss", 0))
        for each in frames if each["kind"] == "metrics" for block in each["blocks"] for step in block["steps"]
    ]  # fmt: skip
    assert laps == [(1, 0), (2, 0), (2, 1), (3, 1)]
    attempt = Attempt.objects.get(pk=lease.attempt_id)
    assert (Run.objects.get(pk=lease.run_id).step, attempt.last_step, attempt.first_lap) == (3, 3, 1)
    assert ingest.progress.step == 3
    # Another supervisor continues in the same lap.
    log(4, [0.1])
    other = supervisor_of(lease, tmp_path)
    attached = other.attach()
    other.store(Tick(read=Journals(tmp_path, attached.positions, attached.last_steps).read()))
    (block,) = json.loads(StoredEvent.objects.filter(kind="metrics", run_id=lease.run_id).latest("seq").frame)["blocks"]
    assert (block["steps"], block["laps"]) == ([4], {"loss": 1})


def test_a_roll_back_that_comes_last_is_where_the_training_is(lease, tmp_path):
    writer = JournalWriter(tmp_path)
    log = writer.encoder(("loss",))
    log(1, [0.5])
    log(2, [0.4])
    ingest = supervisor_of(lease, tmp_path)
    journals = Journals(tmp_path, ingest.attach().positions, {})
    points = journals.read()
    ingest.store(Tick(read=points))
    journals.advance(points)
    assert ingest.progress.step == 2
    writer.append(OutcomeRecord(step=2, id=None, command="roll_back", state="applied", to_step=1, to_epoch=0))
    with answer_lost():
        ingest.store(Tick(read=journals.read(), system={"host/cpu": 0.5}))
    assert Run.objects.get(pk=lease.run_id).step == Attempt.objects.get(pk=lease.attempt_id).last_step == 1
    assert json.loads(StoredEvent.objects.get(run_id=lease.run_id, kind="system").frame)["step"] == 1
    attached = ingest.attach()
    assert ingest.progress.step == 1
    # Later points belong to the lap that the rollback began, whichever supervisor stores them, even if the step
    # continues.
    log(3, [0.3])
    ingest.store(Tick(read=Journals(tmp_path, attached.positions, attached.last_steps).read()))
    (block,) = json.loads(StoredEvent.objects.filter(kind="metrics", run_id=lease.run_id).latest("seq").frame)["blocks"]
    assert (block["steps"], block["laps"]) == ([3], {"loss": 1})


def test_events_of_one_report_are_in_the_order_of_the_journal_with_those_of_commands(lease, tmp_path):
    command = Command.objects.create(
        run_id=lease.run_id, kind="pause", author_name="Ada", sent_at=timezone.now(), state="delivered", attempt=1
    )
    writer = JournalWriter(tmp_path)
    writer.append(EpochRecord(step=5, epoch=1, values={"loss": 0.5}))
    writer.append(OutcomeRecord(step=5, id=str(command.pk), command="pause", state="applied"))
    writer.append(CheckpointRecord(
        step=5, epoch=1, path="own.pt", name="own", reason="last", size_bytes=1, sha256="0" * 64,
    ))  # fmt: skip
    ingest = supervisor_of(lease, tmp_path)
    ingest.store(Tick(read=Journals(tmp_path, ingest.attach().positions, {}).read()))
    told = StoredEvent.objects.filter(run_id=lease.run_id, kind__in=("epoch", "command", "checkpoint")).order_by("seq")
    assert list(told.values_list("kind", flat=True)) == ["epoch", "command", "checkpoint"]


def test_a_checkpoint_that_is_saved_again_in_its_place_after_a_roll_back_counts_again(lease, tmp_path):
    saved = {"path": "files/own.pt", "name": "own", "reason": "last", "size_bytes": 1, "sha256": "0" * 64}
    back = OutcomeRecord(step=2, id=None, command="roll_back", state="applied", to_step=1, to_epoch=0)
    ingest = supervisor_of(lease, tmp_path)
    ingest.attach()
    for records, abandoned in (
        ([CheckpointRecord(step=2, epoch=0, has_manifest=False, metrics={}, **saved), back], True),
        ([CheckpointRecord(step=2, epoch=0, has_manifest=False, metrics={}, **saved)], False),
    ):
        ingest.store(Tick(read=JournalsRead(records)))
        assert Checkpoint.objects.get(run_id=lease.run_id).abandoned is abandoned


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), reports=st.integers(1, 6))
def test_reports_that_are_repeated_and_reordered_change_nothing(tmp_path, data, reports):
    """Each is sent in order; between them the test sends any earlier or not yet due report, in any order."""
    lease = new_lease()
    session = continuing.attach(lease).session
    places = [Position(number // 3, 100 * (number % 3), number) for number in range(reports + 1)]

    def send(number: int, of_session: int = session) -> bool:
        try:
            with transaction.atomic():
                continuing.count_report(lease, of_session, number, last_step=number)
                continuing.move_positions(lease, {0: places[number - 1]}, {0: places[number]})
        except NotContinued:
            return False
        return True

    for number in range(1, reports + 1):
        for other in data.draw(
            st.lists(st.integers(1, reports).filter(lambda each, due=number: each != due), max_size=4)
        ):
            before = rows_of(lease)
            assert not send(other) and rows_of(lease) == before
        assert not send(number, session + 1)
        assert send(number)
    assert continuing.held(lease, session, 1).positions == {0: places[-1]}
    assert Attempt.objects.get(pk=lease.attempt_id).last_step == reports


def test_positions_are_compared_too(lease):
    continuing.attach(lease)
    continuing.move_positions(lease, {}, {0: Position(0, 100, 1)})
    for begin in (Position(), Position(0, 90, 1), Position(0, 100, 2), Position(1, 0, 1)):
        with pytest.raises(NotContinued):
            continuing.move_positions(lease, {0: begin}, {0: Position(1, 50, 3)})
    continuing.move_positions(lease, {0: Position(0, 100, 1)}, {0: Position(1, 50, 3)})
    assert continuing.attach(lease).positions == {0: Position(1, 50, 3)}
