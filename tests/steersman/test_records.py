"""Records, posted commands and decisions: readers read what was written, and hostile content raises no exception."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar
from zlib import crc32

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman.agent.journals.empty_record import NEVER_LOGGED, reproach
from steersman.agent.journals.merged import Journals
from steersman.agent.supervise.stall import StallWatch
from steersman.commands import Control
from steersman.files import journal
from steersman.files.journal import JournalReader, JournalWriter, segment_path
from steersman.files.mailbox import Mailbox
from steersman.messages.reports import Position
from steersman.records import kinds
from steersman.records.posted import Decision, PostedCommand
from steersman.records.record import KINDS, PLACE, Record
from steersman.records.typed_json import DEEPEST, Malformed, decode, encode, fields_of
from tests.steersman.test_commands_of_a_training import Told

GOOD = [
    kinds.PointRecord(step=1, values={"loss": 0.5}),
    kinds.EpochRecord(step=2, epoch=1, duration_s=1.5, best=True, values={"loss": math.inf}),
    kinds.PlanRecord(step=3, total_steps=100),
    kinds.EnvironmentRecord(step=4, environment={"torch": "2", "gpu_uuids": ["GPU-1"], "cuda": None}),
    kinds.NoteRecord(step=5, text="half \ud83d", level="error"),
    kinds.OutcomeRecord(step=6, id="c", command="stop", state="applied", old=1, new={"a": [1, None]}, ranks=2),
    kinds.CheckpointRecord(step=7, path="c/7", epoch=1, name="n", size_bytes=9, sha256="f" * 64, metrics={"m": 1.0}),
    kinds.DroppedRecord(records=7, above_bound=True),
    kinds.EndRecord(step=9, outcome="failed", error="ValueError", traceback="…"),
    kinds.TextRecord(step=10, name="sample", text="文", epoch=None),
    kinds.KnobsRecord(step=11, knobs=[{"name": "rate", "kind": "float", "value": 0.5, "choices": []}]),
    kinds.StateRecord(step=12, state="paused"),
    kinds.QuietRecord(step=13, seconds=60.0),
    kinds.AlertRecord(step=15, name="Odd data", text="文", level="critical"),
    kinds.WatchRecord(step=16, name="my measure", goal="max"),
    kinds.EffectRecord(step=17, id="c", effective={"body": 0.5}),
    kinds.HandlersRecord(step=18, commands=["evaluate"]),
    kinds.ParametersRecord(step=19, parameters={"lr": 0.1, "layers": [1, 2], "data": None}),
    kinds.PatchRecord(step=20, patch="--- a\n+++ b\n"),
    kinds.RankRolledBackRecord(step=21, to_step=7),
    kinds.SetAsideRecord(lines=["a"], system={"gpu/0": None}, events=["Metrics(…)"]),
]
deep: Any = []
for _ in range(DEEPEST + 1):
    deep = [deep]
HOSTILE: list[Any] = [
    None, True, 7, -7, 2**63, 10**400, 1.5, math.nan, -math.inf, "", "text", "\0", "\ud800", [], [None], ["a"], [{}],
    {}, {"a": "b"}, {"a": None}, {"name": 5}, [{"name": "x"}], "/etc/passwd", "../../x", deep,
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
ids = [type(record).__name__ for record in GOOD]


def written(payload: bytes, kind: int, step: int = 0, time: float = 1.7e9) -> bytes:
    """Return a complete record around any payload."""
    length = journal.SMALLEST_RECORD_BYTES + len(payload)
    body = struct.pack("<4sIBHH", journal.SYNC, length, kind, 0, 0) + struct.pack("<Qdq", 0, time, step) + payload
    return body + struct.pack("<I", crc32(body))


def own_fields(record: Record) -> dict[str, object]:
    return fields_of(record, PLACE)


def test_every_kind_has_an_example_here():
    assert {type(record) for record in GOOD} == set(KINDS.values())


@pytest.mark.parametrize("record", GOOD, ids=ids)
def test_a_record_is_read_as_it_was_written(record):
    found, _ = journal.decode(journal.encode(replace(record, number=3, time=1.7e9)), 0)
    assert found == replace(record, number=3, time=1.7e9)


@pytest.mark.parametrize("record", [each for each in GOOD if not isinstance(each, kinds.PointRecord)])
def test_a_field_that_is_missing_takes_its_default_and_an_unknown_one_is_left_out(record):
    required = {each.name for each in fields(record) if each.default is MISSING and each.default_factory is MISSING}
    kept = {name: value for name, value in own_fields(record).items() if name in required}
    found, _ = journal.decode(written(encode(kept | {"later": 1, "step": 5, "rank": 7, "time": "x"}), record.kind), 0)
    assert found is not None and (found.step, found.rank, found.time) == (0, 0, 1.7e9)
    for name in required:
        without = {other: value for other, value in kept.items() if other != name}
        assert journal.decode(written(encode(without), record.kind), 0) == (None, 0)


def takes(record: Record, name: str, value: Any) -> Record | None:
    fields = own_fields(record) | {name: value}
    return journal.decode(written(encode(fields), record.kind), 0)[0]


@pytest.mark.parametrize("record", [each for each in GOOD if not isinstance(each, kinds.PointRecord)])
def test_a_field_of_a_wrong_type_is_damage_and_costs_its_record_alone(record, tmp_path):
    """Records that are still read have the types of their class, and pass every step of a supervisor."""
    path = segment_path(tmp_path, 0, 0)
    taken = 0
    for name in own_fields(record):
        for value in HOSTILE:
            before, after = (written(encode({"text": text}), kinds.NoteRecord.kind) for text in ("before", "after"))
            body = written(encode(own_fields(record) | {name: value}), record.kind)
            path.write_bytes(before + body + after)
            batch = Journals(tmp_path, {0: Position()}, {}).read(ended=True)
            assert batch is not None
            texts = [each.text for each in batch.records if isinstance(each, kinds.NoteRecord)]
            assert texts[0] == "before" and texts[-1] == "after"
            StallWatch(60.0).note(batch.records)
            found = batch.records[1:-1]
            taken += len(found)
            for each in found:
                again = takes(each, name, getattr(each, name))
                # Compared as text, because NaN does not equal itself.
                assert encode(fields_of(again)) == encode(fields_of(replace(each, number=0, time=1.7e9)))
                assert each.in_words()
    assert taken < len(HOSTILE) * len(own_fields(record))


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_payload_raises(data):
    kind = data.draw(st.sampled_from(sorted(set(KINDS) - {1})))
    names = [each.name for each in fields(KINDS[kind]) if each.name not in PLACE]
    payload = data.draw(st.binary(max_size=40) | st.dictionaries(st.sampled_from(names), JSON).map(encode))
    step = data.draw(st.integers(-(2**63), 2**63 - 1))
    time = data.draw(st.floats())
    found, length = journal.decode(written(payload, kind, step, time), 0)
    if found is None:
        assert length == 0
    else:
        assert type(found) is KINDS[kind] and found.step == step and encode(fields_of(found))


@pytest.mark.parametrize(
    ("record", "field", "values"),
    [
        (kinds.CheckpointRecord, "path", ["/etc/passwd", "../x", "a/../../x", "a\0", "\ud800", "x" * 501]),
        (kinds.CheckpointRecord, "sha256", ["", "f" * 63, "g" * 64]),
        (kinds.CheckpointRecord, "size_bytes", [-1]),
        (kinds.PlanRecord, "total_steps", [0, -1]),
        (kinds.QuietRecord, "seconds", [-1.0, math.nan, math.inf]),
        (kinds.DroppedRecord, "records", [-1]),
        (kinds.KnobsRecord, "knobs", [[{}], [{"name": ""}], [{"name": 5}]]),
        (kinds.EnvironmentRecord, "environment", [{"deep": deep}]),
        (kinds.OutcomeRecord, "old", [deep]),
        (kinds.StateRecord, "state", ["asleep"]),
        (kinds.EndRecord, "outcome", ["exploded"]),
        (kinds.NoteRecord, "level", ["fatal"]),
        (kinds.AlertRecord, "level", ["error"]),
        (kinds.WatchRecord, "goal", ["", "least"]),
        (kinds.OutcomeRecord, "state", ["sent"]),
        (kinds.OutcomeRecord, "id", [5]),
    ],
)
def test_a_value_that_its_kind_cannot_have_is_damage(record, field, values):
    (good,) = [each for each in GOOD if type(each) is record]
    assert takes(good, field, getattr(good, field)) is not None
    for value in values:
        assert takes(good, field, value) is None, value


@pytest.mark.parametrize("time", [math.nan, math.inf, -1.0, 1e300])
def test_a_time_that_no_calendar_has_is_damage(time):
    assert journal.decode(written(b'{"text": "x"}', kinds.NoteRecord.kind, time=time), 0) == (None, 0)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (kinds.EpochRecord, "EpochRecord.epoch is missing"),
        (kinds.QuietRecord, "QuietRecord.seconds is missing"),
    ],
)
def test_what_is_wrong_names_the_field(record, sentence):
    with pytest.raises(Malformed, match=sentence):
        record.from_payload(b"{}", number=0, time=0.0, step=0)


@pytest.mark.parametrize("record", GOOD, ids=ids)
def test_msgspec_encodes_the_same_class_to_the_same_object(record):
    if isinstance(record, kinds.EpochRecord):
        record = replace(record, values={"loss": 0.5})
    if isinstance(record, kinds.NoteRecord):
        record = replace(record, text="whole")
    assert json.loads(msgspec.json.encode(record)) == json.loads(encode(fields_of(record)))


# Commands


COMMAND = PostedCommand(
    id="c", command="set_knob", arguments={"knob": "rate", "value": 0.5}, author="Ada", at_step=3, at_epoch=None,
    expected_state="running", expected_value=0.1, expires_monotonic_s=1.5,
)  # fmt: skip


def test_a_command_arrives_as_it_was_posted(tmp_path):
    Mailbox(tmp_path).post(COMMAND)
    assert Mailbox(tmp_path).commands() == [COMMAND]
    decision = Decision(at=1, step=2, epoch=3, commands=[COMMAND, PostedCommand(id=None, command="stop")])
    assert decode(Decision, encode(decision)) == decision


@pytest.mark.parametrize("name", [each.name for each in fields(PostedCommand)])
def test_a_hostile_command_costs_itself_alone_and_raises_nowhere(tmp_path, name):
    mailbox = Mailbox(tmp_path)
    with (tmp_path / "commands.jsonl").open("wb") as file:
        for line in (b"[]", b"5", b"{", b"\xff", b"[" * 50_000, b"{}", b'{"id": "x"}'):
            file.write(line + b"\n")
        for value in HOSTILE:
            file.write(encode(fields_of(COMMAND) | {name: value}) + b"\n")
    mailbox.post(PostedCommand(id="last", command="note"))
    found = mailbox.commands()
    assert found[-1].id == "last"
    # The expected value of a knob may have any type; every other field has one type.
    assert len(found) < len(HOSTILE) or name == "expected_value"
    told = Told()
    control = Control(told)
    control.take(found, 1, 1)
    control.apply_due(10**6, 10**6)
    assert len(told.outcomes) == len(found)


@settings(max_examples=200)
@given(
    kind=st.sampled_from(["stop", "pause", "resume", "set_knob", "note", "cancel", "evaluate", "expire", ""]),
    arguments=st.dictionaries(st.sampled_from(["knob", "value", "factor", "group", "checkpoint", "command"]), JSON),
)
def test_no_arguments_of_a_command_raise_out_of_a_training(kind, arguments):
    told = Told()
    Control(told).take([PostedCommand(id="c", command=kind, arguments=arguments)], 1, 1)
    assert len(told.outcomes) == (kind != "expire")


# A new kind needs only one class


@pytest.fixture
def smoke() -> Iterator[type[Record]]:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class SmokeRecord(Record):
        kind: ClassVar[int] = 77
        title: ClassVar[str] = "the smoke above {place}"
        from_every_rank: ClassVar[bool] = True
        shows_progress: ClassVar[bool] = True
        is_recording: ClassVar[bool] = True

        place: str

    yield SmokeRecord
    del KINDS[77]


def test_a_new_kind_is_one_class(smoke: Any, tmp_path: Path):
    for rank in (0, 1):
        JournalWriter(tmp_path, rank).append(smoke(step=5, place=f"node {rank}"))
    batch = Journals(tmp_path, {0: Position(), 1: Position()}, {}).read(ended=True)
    assert batch is not None and batch.unreadable == 0
    assert [(each.in_words(), each.step, each.rank) for each in batch.records] == [
        ("the smoke above node 0", 5, 0), ("the smoke above node 1", 5, 1),
    ]  # fmt: skip
    assert reproach(tmp_path) == ""
    watch = StallWatch(60.0, stalled=True)
    watch.note(batch.records)
    watch.measure(0.0)
    assert watch.measure(1.0) == 0.0


def test_a_kind_whose_number_is_not_known_is_damage(smoke: Any, tmp_path: Path):
    JournalWriter(tmp_path).append(smoke(place="here"))
    del KINDS[77]
    try:
        reader = JournalReader(segment_path(tmp_path, 0, 0))
        assert reader.read(4 << 20, ended=True) == [] and reader.unreadable == 1
        assert reproach(tmp_path) == NEVER_LOGGED
    finally:
        KINDS[77] = smoke


def test_a_number_is_not_given_twice():
    with pytest.raises(TypeError, match="the number 2 is that of EpochRecord"):

        class AnotherRecord(Record):
            kind: ClassVar[int] = 2


def test_an_epoch_that_is_far_too_wide_is_remarked_once_with_what_was_stored():
    remarks: list[str] = []
    given = {f"{'value' * 30} {number}": 1.0 for number in range(40_000)}
    record = kinds.EpochRecord.of(3, given, step=1, present=1, duration_s=None, best=False, remarks=remarks)
    assert record is not None and 0 < len(record.values) <= 40_000 // 4
    assert remarks == [f"Epoch 3 has more values than a record can hold: {len(record.values)} were stored."]
