"""Events larger than a frame: the parts together have the same content, and each of them fits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from runs.live.hello import bounded_hello
from runs.protocol.event_parts import LARGEST_FRAME_BYTES, cut_text, frame_bytes, parts, size
from runs.protocol.events import (
    Block,
    CommandChanged,
    EpochDone,
    Event,
    KnobsChanged,
    LogLine,
    LogWritten,
    SystemSampled,
    TextLogged,
    encode_event,
)
from runs.protocol.messages import Hello
from runs.series.storage import points_of
from tests.support.stored_points import checkpoint_event, metrics_event, status_event

NAMES = [f"layer/{number}/a name of a usual length" for number in range(5000)]


def fitting(event: Event) -> list[Any]:
    """Return the parts of an event after checking that each fits into a frame and can be sent as one."""
    found = parts(event)
    for seq, part in enumerate(found, start=10**15):
        assert frame_bytes(encode_event(part, seq, datetime.now(UTC))) <= LARGEST_FRAME_BYTES
    return found


def points(events: list[Any]) -> dict[str, list[tuple[int, float, str]]]:
    collected: dict[str, list[tuple[int, float, str]]] = {}
    for event in events:
        for name, lap, steps, times, values in points_of(event):
            collected.setdefault(f"{lap}/{name}", []).extend(zip(steps, times, map(repr, values), strict=True))
    return collected


def block(names: list[str], steps: int) -> Block:
    column: list[float | None] = [None if step % 7 == 3 else step / 3 for step in range(steps)]
    nonfinite = [(step, "nan") for step in range(steps) if step % 7 == 3]
    values = {name: list(column) for name in names}
    return Block(
        steps=list(range(steps)),
        times=[1e9 + step / 8 for step in range(steps)],
        values=values,
        nonfinite=dict.fromkeys(names[::2], nonfinite),
        laps=dict.fromkeys(names[::3], 2),
    )


def block_of_float32s(names: list[str], steps: int) -> Block:
    """Return a block in which only the first column has values that are not float32."""
    columns = block(names, steps)
    singles = {name: column if name == names[0] else [step / 4096 for step in range(steps)]
               for name, column in columns.values.items()}  # fmt: skip
    return msgspec.structs.replace(columns, values=singles, float32=True, float64=[names[0]])


@pytest.mark.parametrize(
    "blocks",
    [
        [block_of_float32s(NAMES, 3)],
        [block_of_float32s(NAMES[:2], 9_000)],
        [block(NAMES, 1)],
        [block(NAMES, 9)],
        [block(["loss"], 20_000)],
        [block([name], 3) for name in NAMES[:2000]],
    ],
    ids=[
        "many series of float32s",
        "many steps of float32s",
        "many series",
        "many series and steps",
        "many steps",
        "many blocks",
    ],
)
def test_metrics_keep_every_point_in_order(blocks):
    event = metrics_event(blocks, attempt=3)
    found = fitting(event)
    assert len(found) > 1 and {part.attempt for part in found} == {3}
    assert points(found) == points([metrics_event(blocks, attempt=3)])


def test_samples_of_a_machine_keep_every_value():
    event = SystemSampled(attempt=1, step=4, time=9.5, values=dict.fromkeys(NAMES, 1.25))
    found = fitting(event)
    assert len(found) > 1
    assert {name: value for part in found for name, value in part.values.items()} == event.values


@pytest.mark.parametrize("text", ["x", "模", "\x01", "\U0001f600", '"'])
def test_lines_stay_whole_and_what_was_skipped_counts_once(text):
    event = LogWritten(attempt=1, lines=[LogLine(text=text * 2000) for _ in range(500)], skipped_bytes=12)
    found = fitting(event)
    assert [line for part in found for line in part.lines] == event.lines
    assert [part.skipped_bytes for part in found] == [12] + [0] * (len(found) - 1)


@pytest.mark.parametrize("text", ["x", "模", "\x01", '"'])
def test_a_text_that_is_too_long_says_how_much_is_missing(text):
    (part,) = fitting(TextLogged(attempt=1, step=1, name="sample", text=text * 100_000))
    kept, _, rest = part.text.partition(" … (")
    assert len(kept) + int(rest.split()[0]) == 100_000 and set(kept) == {text} and size(kept) > 30_000
    (log,) = fitting(LogWritten(attempt=1, lines=[LogLine(text=text * 100_000)]))
    assert log.lines[0].text.endswith(" more characters)")
    assert cut_text(text * 10, 100) == text * 10


def test_an_epoch_loses_no_value_and_is_told_once():
    values: dict[str, float | None] = {name: None if number % 5 == 0 else 0.5 for number, name in enumerate(NAMES)}
    nonfinite = {name: "inf" for number, name in enumerate(NAMES) if number % 5 == 0}
    found = fitting(EpochDone(attempt=1, epoch=2, step=9, best=True, values=values, nonfinite=nonfinite))
    assert [part.part for part in found] == list(range(len(found))) and len(found) > 1
    assert {name: value for part in found for name, value in part.values.items()} == values
    assert {name: kind for part in found for name, kind in part.nonfinite.items()} == nonfinite


def test_knobs_are_told_in_parts():
    knobs = [{"name": f"knob {number}", "kind": "text", "help": "模" * 500, "value": 1} for number in range(200)]
    found = fitting(KnobsChanged(attempt=1, step=1, knobs=knobs))
    assert [part.part for part in found] == list(range(len(found))) and len(found) > 1
    assert [knob for part in found for knob in part.knobs] == knobs


def test_a_checkpoint_says_how_many_metrics_it_leaves_out():
    event = checkpoint_event(1, metrics=dict.fromkeys(NAMES, 0.5))
    (part,) = fitting(event)
    assert len(part.metrics) > 500 and len(part.metrics) + part.metrics_left_out == 5000


def test_other_events_keep_what_fits():
    arguments = {"text": "模" * 60_000}
    (note,) = fitting(CommandChanged(id="1", command="note", state="sent", author="a", arguments=arguments, sent_at=""))
    assert note.arguments["text"].startswith("模模模") and note.arguments["text"].endswith("more characters)")
    (command,) = fitting(
        CommandChanged(id="1", command="set_knob", state="applied", author="a", sent_at="",
                       old=list(range(20_000)), new=dict.fromkeys(NAMES, 1), outcome="x" * 70_000)
    )  # fmt: skip
    assert "left out" in command.old[0] and "left out" in command.new["left_out"]
    (status,) = fitting(status_event("failed", reason="\x02" * 70_000))
    assert status.state == "failed"


def test_what_fits_stays_as_it_is():
    event = metrics_event([block(["loss"], 100)])
    assert parts(event) == [event]


def hello(**fields: Any) -> Hello:
    run: dict[str, Any] = {"name": "run", "state": "running", "knobs": [], "commands": []}
    return Hello(
        seq=1, replay=False, run=run | fields.pop("run", {}), latest=fields.pop("latest", {}),
        viewer={"name": "operator"}, server_time=1.0, heartbeat_interval_s=1.0, life="alive", link="live",
        watchers={},
    )  # fmt: skip


def test_a_greeting_fits_and_says_what_is_incomplete():
    latest = {name: {"step": 1, "time": 1.5, "value": 0.5, "nonfinite": ""} for name in NAMES}
    commands = [{"id": str(number), "arguments": {"text": "模" * 2000}} for number in range(20)]
    knobs = [{"name": str(number), "help": "x" * 400} for number in range(100)]
    told = hello(run={"commands": commands, "knobs": knobs}, latest=latest)
    smaller = bounded_hello(told)
    assert frame_bytes(msgspec.json.encode(smaller).decode()) <= LARGEST_FRAME_BYTES
    assert set(smaller.incomplete) == {"knobs", "commands", "latest"}
    assert smaller.run["commands"] == commands[-len(smaller.run["commands"]) :] and smaller.run["commands"]
    assert list(smaller.latest) == NAMES[: len(smaller.latest)] and len(smaller.latest) > 100
    assert smaller.run["state"] == "running"


def test_a_greeting_leaves_out_no_more_than_it_must():
    small = hello(latest={"loss": {"step": 1}})
    assert bounded_hello(small) is small
    commands = [{"id": str(number), "arguments": {"text": "模" * 2000}} for number in range(20)]
    smaller = bounded_hello(hello(run={"commands": commands}, latest={"loss": {"step": 1}}))
    assert smaller.incomplete == ["commands"] and smaller.latest == {"loss": {"step": 1}}
