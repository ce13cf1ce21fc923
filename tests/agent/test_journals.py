"""Records of several ranks for the same step become one point, exactly once, in whatever order they are read."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from steersman.agent.journals import merged as merging
from steersman.agent.journals.merged import Journals, JournalsRead
from steersman.agent.journals.reduction import reduce_values
from steersman.files import journal
from steersman.files.journal import JournalWriter
from steersman.messages.environments import merge_environments
from steersman.messages.reports import Position, Report
from steersman.records.kinds import (
    EndRecord,
    EnvironmentRecord,
    EpochRecord,
    NoteRecord,
    OutcomeRecord,
    PointRecord,
    RankRolledBackRecord,
    TextRecord,
)
from steersman.records.record import Record
from steersman.wire.codec import encode
from steersman.wire.framing import LARGEST_MESSAGE_BYTES


class Log:
    """One rank's journal, written by hand."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._writer = JournalWriter(folder, rank)

    def point(self, step: int, **values: float) -> None:
        self._writer.encoder(tuple(values))(step, [float(value) for value in values.values()])

    def word(self, kind: type[Record], **fields: Any) -> None:
        self._writer.append(kind(**fields))


def opened(folder: Path, ranks: int, positions: dict[int, Position] | None = None, **last_steps: int) -> Journals:
    return Journals(folder, {rank: Position() for rank in range(ranks)} | (positions or {}), last_steps)


def points(batch: JournalsRead | None) -> list[tuple[int, dict[str, float]]]:
    return [(each.step, each.values) for each in batch.records if isinstance(each, PointRecord)] if batch else []


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("train/loss", [1.0, 2.0], 1.5),
        ("train/loss", [0.1, 0.1, 0.1], 0.1),
        ("speed/samples_per_second", [10.0, 12.0], 22.0),
        ("speed/tokens_per_second", [10.0, 12.0, 1.0], 23.0),
        ("speed/step_ms", [3.0, 5.0], 5.0),
        ("speed/data_wait_fraction", [0.25, 0.125], 0.25),
        # Two shards of one tensor: 3 and 4 times the root of two.
        ("layers/gradient/head", [3 * math.sqrt(2), 4 * math.sqrt(2)], pytest.approx(5.0)),
        ("layers/weight/head", [0.3, 0.3, 0.3], 0.3),
        ("mine", [1e308, 1.5e308], math.inf),
    ],
)
def test_a_series_is_reduced_by_its_name(name, values, expected):
    assert reduce_values(name, values) == expected
    assert reduce_values(name, values[::-1]) == expected


@pytest.mark.parametrize("name", ["train/loss", "speed/step_ms", "speed/samples_per_second"])
def test_what_is_not_finite_on_one_rank_shows(name):
    assert math.isnan(reduce_values(name, [1.0, math.nan, 2.0]))
    assert reduce_values(name, [math.inf, 1.0]) == math.inf


def test_a_step_is_held_back_until_every_rank_has_logged_it(tmp_path):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    reader = opened(tmp_path, 2)
    first.point(1, loss=1.0)
    first.word(NoteRecord, step=1, text="behind the first step")
    first.point(2, loss=2.0)
    assert reader.read() is None and reader.has_more()
    second.point(1, loss=3.0)
    batch = reader.read()
    assert points(batch) == [(1, {"loss": 2.0})]
    assert batch is not None and [type(each) for each in batch.records] == [PointRecord, NoteRecord]
    # Nothing is consumed before it is stored.
    assert points(reader.read()) == [(1, {"loss": 2.0})]
    reader.advance(batch)
    assert reader.read() is None
    second.point(2, loss=6.0)
    assert points(reader.read()) == [(2, {"loss": 4.0})]


def test_a_reader_that_was_killed_anywhere_leaves_no_gap_and_no_double(tmp_path):
    """Every batch is either stored or lost with its reader, like a transaction."""
    rng = random.Random(3)
    logs = [Log(tmp_path, rank) for rank in range(3)]
    waiting = [list(range(1, 400)) for _ in range(3)]
    stored: list[tuple[int, dict[str, float]]] = []
    positions: dict[int, Position] = {}
    reader = opened(tmp_path, 3)
    while any(waiting):
        for rank in rng.sample(range(3), 3):
            for _ in range(min(rng.randrange(6), len(waiting[rank]))):
                step = waiting[rank].pop(0)
                logs[rank].point(step, loss=float(step + rank), **{"speed/samples_per_second": 1.0})
                if rank == 0 and step % 7 == 0:
                    logs[0].point(step, extra=float(step))
        batch = reader.read(ended=not any(waiting))
        if batch is None:
            continue
        if rng.random() < 0.5:
            stored += points(batch)
            positions |= batch.positions
            reader.advance(batch)
        if rng.random() < 0.3:
            reader = opened(tmp_path, 3, positions, loss=stored[-1][0] if stored else -1)
    while (batch := reader.read(ended=True)) is not None:
        stored += points(batch)
        reader.advance(batch)
    means = [(step, values["loss"]) for step, values in stored if "loss" in values]
    assert means == [(step, step + 1.0) for step in range(1, 400)]
    assert {values["speed/samples_per_second"] for _, values in stored if "loss" in values} == {3.0}
    assert [step for step, values in stored if "extra" in values] == [step for step in range(1, 400) if step % 7 == 0]


def test_a_long_outage_of_many_ranks_is_reported_in_messages_that_can_be_sent(tmp_path):
    names = tuple(f"{number} is the name of a series, which takes its place in a message" for number in range(20))
    for rank in range(8):
        log = JournalWriter(tmp_path, rank).encoder(names)
        for step in range(1, 2001):
            log(step, [float(rank)] * len(names))
    reader = opened(tmp_path, 8)
    steps: list[int] = []
    while (batch := reader.read()) is not None:
        report = Report(1, 1, batch.begin, batch.positions, batch.records, by_rank=batch.by_rank)
        assert len(encode(report)) < LARGEST_MESSAGE_BYTES / 4
        steps += [step for step, _ in points(batch)]
        reader.advance(batch)
    assert steps == list(range(1, 2001))


def test_a_rank_that_logs_less_often_holds_nobody_back(tmp_path):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    reader = opened(tmp_path, 2)
    for step in range(1, 21):
        first.point(step, loss=1.0)
        if step % 10 == 0:
            second.point(step, loss=3.0)
    expected = [(step, {"loss": 2.0 if step % 10 == 0 else 1.0}) for step in range(1, 21)]
    assert points(reader.read()) == expected


def test_a_rank_that_is_late_is_left_out_of_that_step_for_good(tmp_path, monkeypatch):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    reader = opened(tmp_path, 2)
    second.point(1, loss=3.0)
    for step in (1, 2, 3):
        first.point(step, loss=1.0)
    batch = reader.read()
    assert batch is not None and points(batch) == [(1, {"loss": 2.0})]
    reader.advance(batch)
    monkeypatch.setattr(merging, "LATE_AFTER_S", -1.0)
    batch = reader.read()
    assert batch is not None and points(batch) == [(2, {"loss": 1.0}), (3, {"loss": 1.0})]
    reader.advance(batch)
    monkeypatch.undo()
    second.point(2, loss=3.0)
    second.point(3, loss=3.0)
    second.point(4, loss=3.0)
    first.point(4, loss=1.0)
    restarted = opened(tmp_path, 2, {0: reader._lanes[0].tail.position, 1: reader._lanes[1].tail.position}, loss=3)
    assert points(reader.read()) == points(restarted.read()) == [(4, {"loss": 2.0})]


def test_ranks_that_never_log_are_waited_for_once(tmp_path, monkeypatch):
    first = Log(tmp_path, 0)
    Log(tmp_path, 1).word(NoteRecord, step=0, text="here")
    reader = opened(tmp_path, 2)
    first.point(1, loss=1.0)
    batch = reader.read()
    assert batch is not None and points(batch) == []
    (note,) = batch.records
    assert isinstance(note, NoteRecord) and (note.text, note.rank) == ("here", 1)
    reader.advance(batch)
    monkeypatch.setattr(merging, "LATE_AFTER_S", -1.0)
    batch = reader.read()
    assert batch is not None and points(batch) == [(1, {"loss": 1.0})]
    reader.advance(batch)
    monkeypatch.undo()
    first.point(2, loss=1.0)
    assert points(reader.read()) == [(2, {"loss": 1.0})]


def test_a_rank_that_no_longer_logs_something_is_waited_for_once(tmp_path, monkeypatch):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    reader = opened(tmp_path, 2)
    for log in (first, second):
        log.point(1, loss=1.0)
        log.point(1, other=1.0)
    first.point(2, other=5.0)
    batch = reader.read()
    assert batch is not None and len(points(batch)) == 2
    reader.advance(batch)
    monkeypatch.setattr(merging, "LATE_AFTER_S", -1.0)
    batch = reader.read()
    assert batch is not None and points(batch) == [(2, {"other": 5.0})]
    reader.advance(batch)
    monkeypatch.undo()
    first.point(3, other=7.0)
    assert points(reader.read()) == [(3, {"other": 7.0})]
    first.point(4, loss=1.0)
    second.point(4, loss=2.0)
    second.point(4, other=2.0)
    first.point(5, other=2.0)
    assert points(reader.read()) == [(3, {"other": 7.0}), (4, {"loss": 1.5}), (4, {"other": 2.0})]


def test_the_gpus_of_all_ranks_are_kept_whoever_tells_first():
    zero, one = (
        {"device": "cuda:0", "gpu_uuids": ["a"], "torch": "2"},
        {"device": "cuda:1", "gpu_uuids": ["b"]},
    )
    for told in ([(zero, 0), (one, 1)], [(one, 1), (zero, 0)]):
        environment: dict[str, Any] = {}
        for each, rank in told:
            environment = merge_environments(environment, each, rank)
        assert sorted(environment["gpu_uuids"]) == ["a", "b"] and environment["torch"] == "2"
        assert environment["device"] == "cuda:0" and environment["rank_devices"] == {"1": "cuda:1"}
    assert merge_environments({}, zero) == zero


@pytest.mark.parametrize("uuids", [None, 5, "GPU-1", [1, "GPU-1", None], {"a": 1}])
@pytest.mark.parametrize("devices", [None, [1], {"1": "cuda:1"}])
def test_an_environment_may_use_our_names_for_its_own(uuids, devices):
    told = {"rank": 0, "world": 8, "gpu_uuids": uuids, "rank_devices": devices, "torch": "2"}
    kept = merge_environments(merge_environments({}, told), {"device": "cuda:2"}, 2)
    assert (kept["rank"], kept["world"], kept["torch"]) == (0, 8, "2")
    assert kept["gpu_uuids"] == (["GPU-1"] if isinstance(uuids, list) else [])
    assert kept["rank_devices"]["2"] == "cuda:2"


def test_a_rank_that_ended_is_not_waited_for(tmp_path):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    second.point(1, loss=1.0)
    second.word(EndRecord, step=1, outcome="finished", error="", traceback="")
    first.point(1, loss=1.0)
    first.point(2, loss=5.0)
    batch = opened(tmp_path, 2).read()
    assert points(batch) == [(1, {"loss": 1.0}), (2, {"loss": 5.0})]
    assert batch is not None and EndRecord not in [type(each) for each in batch.records]


def test_epochs_and_texts_are_those_of_rank_0(tmp_path):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    for rank, log in enumerate((first, second)):
        log.word(EpochRecord, step=5, epoch=1, values={"train_loss": float(rank)})
        log.word(TextRecord, step=5, name="sample", text=str(rank))
        log.word(EnvironmentRecord, step=0, environment={"gpu_uuids": [f"GPU-{rank}"]})
    batch = opened(tmp_path, 2).read()
    assert batch is not None
    assert [(type(each), each.rank or None) for each in batch.records] == [
        (EpochRecord, None), (TextRecord, None), (EnvironmentRecord, None), (EnvironmentRecord, 1),
    ]  # fmt: skip


def test_damage_in_one_journal_costs_what_is_damaged(tmp_path):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    for step in range(1, 6):
        first.point(step, loss=1.0)
        second.point(step, loss=3.0)
    path = journal.segment_path(tmp_path, 1, 0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    batch = opened(tmp_path, 2).read(ended=True)
    assert points(batch) == [(step, {"loss": 1.0 if step == 3 else 2.0}) for step in range(1, 6)]
    assert batch is not None and batch.unreadable == 1


def damaged(folder: Path, bad: tuple[int, ...], count: int = 12) -> None:
    """Write the journal of one rank, and damage some of its records."""
    log = Log(folder, 0)
    path = journal.segment_path(folder, 0, 0)
    ends = [0]
    for step in range(count):
        log.point(step, loss=1.0)
        ends.append(path.stat().st_size)
    data = bytearray(path.read_bytes())
    for number in bad:
        data[(ends[number] + ends[number + 1]) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("bad", [(), (0,), (3,), (3, 4, 8), (11,), (0, 11)], ids=str)
def test_damage_is_counted_once_where_few_records_are_read_at_a_time(tmp_path, bad, most, ranks, restarted):
    damaged(tmp_path, bad)
    if ranks == 2:
        Log(tmp_path, 1).word(EndRecord, step=0, outcome="finished")
    reader = opened(tmp_path, ranks)
    found, unreadable = [], 0
    while (batch := reader.read(ended=True, most=most)) is not None:
        assert reader.read(ended=True, most=most) == batch, "nothing is consumed before it is stored"
        found += points(batch)
        unreadable += batch.unreadable
        reader.advance(batch)
        if restarted:
            reader = opened(tmp_path, ranks, reader.positions)
    assert [step for step, _ in found] == [step for step in range(12) if step not in bad]
    assert unreadable == len(bad)


def test_one_by_one_each_record_is_decoded_once(tmp_path, monkeypatch):
    damaged(tmp_path, (), 300)
    decoded = 0
    decode = journal.decode

    def counted(*given):
        nonlocal decoded
        decoded += 1
        return decode(*given)

    monkeypatch.setattr(journal, "decode", counted)
    reader = opened(tmp_path, 1)
    for step in range(300):
        batch = reader.read(most=1)
        assert points(batch) == [(step, {"loss": 1.0})]
        reader.advance(batch)
    assert reader.read() is None and decoded < 2 * 300


def test_the_whole_rest_is_read_after_some_records_one_by_one(tmp_path):
    damaged(tmp_path, (2,))
    reader = opened(tmp_path, 1)
    first = reader.read(most=1)
    assert points(first) == [(0, {"loss": 1.0})]
    reader.advance(first)
    reader.read(most=1)
    rest = reader.read()
    assert [step for step, _ in points(rest)] == [1, *range(3, 12)] and rest is not None and rest.unreadable == 1
    reader.advance(rest)
    assert reader.read() is None and not reader.has_more()


def test_a_journal_of_many_segments_is_followed_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "LARGEST_SEGMENT_BYTES", 200)
    log, reader, found = Log(tmp_path, 0), opened(tmp_path, 1), []
    for step in range(60):
        log.word(NoteRecord, step=step, text="more")
        while reader.has_more() and (batch := reader.read()) is not None:
            found += [each.step for each in batch.records]
            reader.advance(batch)
    assert found == list(range(60)) and not reader.has_more()


def rolled_back(left: int, step: int) -> dict[str, Any]:
    return {"id": "1", "command": "roll_back", "state": "applied", "step": left, "to_step": step, "ranks": 2}


@pytest.mark.parametrize("most", [None, 1])
def test_what_ranks_logged_before_a_roll_back_comes_before_it_whatever_is_read_when(tmp_path, most):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    reader = opened(tmp_path, 2)
    told: list[object] = []

    def read(ended: bool = False) -> None:
        while (batch := reader.read(ended, most)) is not None:
            told.extend(
                (each.step, each.values) if isinstance(each, PointRecord) else type(each) for each in batch.records
            )
            reader.advance(batch)

    for step in (1, 2, 3):
        first.point(step, loss=1.0)
        second.point(step, loss=3.0)
    second.point(2, own=2.0)
    first.word(OutcomeRecord, **rolled_back(3, 1))
    first.point(2, loss=5.0)
    read()
    # The other rank may have logged more before it was rolled back: the rollback waits for its mark.
    assert told == [(1, {"loss": 2.0}), (2, {"loss": 2.0}), (3, {"loss": 2.0}), (2, {"own": 2.0})]
    second.point(3, own=3.0)
    second.word(RankRolledBackRecord, step=3, to_step=1)
    second.point(2, loss=7.0)
    second.point(2, own=4.0)
    second.point(3, loss=7.0)
    first.point(3, loss=5.0)
    read()
    assert told[4:] == [(3, {"own": 3.0}), OutcomeRecord, (2, {"loss": 6.0}), (2, {"own": 4.0}), (3, {"loss": 6.0})]


def test_a_rank_that_was_killed_before_its_mark_of_a_roll_back_holds_nothing_back_at_the_end(tmp_path):
    first, second = Log(tmp_path, 0), Log(tmp_path, 1)
    first.point(1, loss=1.0)
    second.point(1, loss=3.0)
    first.word(OutcomeRecord, **rolled_back(1, 0))
    reader = opened(tmp_path, 2)
    batch = reader.read(ended=True)
    assert batch is not None and [type(each) for each in batch.records] == [PointRecord, OutcomeRecord]
    # And the reverse: rank 0 cannot report it any more.
    (tmp_path / "b").mkdir()
    third, fourth = Log(tmp_path / "b", 0), Log(tmp_path / "b", 1)
    third.point(1, loss=1.0)
    fourth.point(1, loss=3.0)
    fourth.word(RankRolledBackRecord, step=1, to_step=0)
    fourth.word(EnvironmentRecord, step=1, environment={})
    other = opened(tmp_path / "b", 2)
    batch = other.read(ended=True)
    assert batch is not None and [type(each) for each in batch.records] == [PointRecord, EnvironmentRecord]
