"""Bounds the size of events: an event that is larger than a frame is divided, or cut with a note that says so.

Pure functions. No frame over LARGEST_FRAME_BYTES reaches a viewer; docs/protocol.md has the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from runs.protocol.events import (
    Block,
    CheckpointSaved,
    EpochDone,
    Event,
    KnobsChanged,
    LogLine,
    LogWritten,
    Metrics,
    SystemSampled,
)

# Bytes of UTF-8 in a text frame, for any message.
LARGEST_FRAME_BYTES = 64 * 1024
# The rest is for number, kind, time, and a role instead of a name.
LARGEST_EVENT_BYTES = 60 * 1024
# Texts and objects in an event that is too large are cut to the first of these sizes, as JSON, with which it fits.
SMALLER_VALUES_BYTES = (40 * 1024, 16 * 1024, 8 * 1024, 3 * 1024)
# For a line of the console, as JSON; readable lines are far shorter.
LARGEST_LINE_BYTES = 32 * 1024
# A stored name may have fewer characters than this: the limit only keeps a frame within its size.
LARGEST_KEY_BYTES = 2 * 1024

Item = TypeVar("Item")
AnyEvent = TypeVar("AnyEvent", bound=Event)


def parts(event: Event) -> list[Event]:
    """Return `event` alone if it fits into a frame, otherwise several events with the same content that fit."""
    if size(event) <= LARGEST_EVENT_BYTES:
        return [event]
    match event:
        case Metrics():
            return list(_parts_of_metrics(event))
        case SystemSampled():
            return list(_parts_of_system(event))
        case LogWritten():
            return list(_parts_of_log(event))
        case EpochDone():
            return list(_parts_of_epoch(event))
        case KnobsChanged():
            return list(_parts_of_knobs(event))
        case CheckpointSaved():
            return [_bounded_checkpoint(event)]
        case _:
            return [_bounded(event)]


def size(value: Any) -> int:
    """Return the size of `value` as JSON in bytes, including escapes and multi-byte characters."""
    return len(msgspec.json.encode(value))


def frame_bytes(frame: str) -> int:
    """Return the size of a text frame in bytes."""
    return len(frame) if frame.isascii() else len(frame.encode("utf-8", "surrogatepass"))


def cut_text(text: str, most: int) -> str:
    """Return `text` if it has at most `most` bytes as JSON, else its beginning and the number of removed characters."""
    if 6 * len(text) + 2 <= most or size(text) <= most:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if size(_cut_at(text, middle)) <= most:
            low = middle
        else:
            high = middle - 1
    return _cut_at(text, low)


def _cut_at(text: str, length: int) -> str:
    return f"{text[:length]} … ({len(text) - length} more characters)"


def _parts_of_metrics(event: Metrics) -> Iterator[Metrics]:
    gathered: list[Block] = []
    room = LARGEST_EVENT_BYTES - size(msgspec.structs.replace(event, blocks=[]))
    for block in event.blocks:
        for piece in _pieces(block, room - 1):
            taken = size(piece) + 1
            if gathered and taken > room:
                yield msgspec.structs.replace(event, blocks=gathered)
                gathered, room = [], LARGEST_EVENT_BYTES - size(msgspec.structs.replace(event, blocks=[]))
            gathered.append(piece)
            room -= taken
    if gathered:
        yield msgspec.structs.replace(event, blocks=gathered)


def _pieces(block: Block, most: int) -> Iterator[Block]:
    """Yield blocks of at most about `most` bytes that together contain the points of `block`, with steps in order.

    The cheaper side is halved: parts by series repeat the steps, parts by steps repeat the names.
    """
    most = max(most, LARGEST_EVENT_BYTES // 2)
    if size(block) <= most:
        yield block
        return
    names, steps = list(block.values), len(block.steps)
    if len(names) > 1 and (len(names) >= steps or steps == 1):
        middle = len(names) // 2
        halves = [_of_series(block, names[:middle]), _of_series(block, names[middle:])]
    elif steps > 1:
        halves = [_of_steps(block, 0, steps // 2), _of_steps(block, steps // 2, steps)]
    else:
        yield _of_series(block, names, rename=True)
        return
    for half in halves:
        yield from _pieces(half, most)


def _of_series(block: Block, names: Sequence[str], rename: bool = False) -> Block:
    shown: Callable[[str], str] = _cut_key if rename else str
    doubles = [shown(name) for name in names if name in (block.float64 or ())]
    return msgspec.structs.replace(
        block,
        values={shown(name): block.values[name] for name in names},
        nonfinite={shown(name): block.nonfinite[name] for name in names if name in block.nonfinite},
        float64=doubles or msgspec.UNSET,
        laps={shown(name): block.laps[name] for name in names if name in block.laps} if block.laps else msgspec.UNSET,
    )


def _of_steps(block: Block, start: int, end: int) -> Block:
    nonfinite = {
        name: [(index - start, kind) for index, kind in replaced if start <= index < end]
        for name, replaced in block.nonfinite.items()
    }
    return msgspec.structs.replace(
        block,
        steps=block.steps[start:end],
        times=block.times[start:end],
        values={name: column[start:end] for name, column in block.values.items()},
        nonfinite={name: replaced for name, replaced in nonfinite.items() if replaced},
    )


def _parts_of_system(event: SystemSampled) -> Iterator[SystemSampled]:
    room = LARGEST_EVENT_BYTES - size(msgspec.structs.replace(event, values={}))
    values = [(_cut_key(name), value) for name, value in event.values.items()]
    for group in _filled(values, room, _pair_bytes):
        yield msgspec.structs.replace(event, values=dict(group))


def _parts_of_log(event: LogWritten) -> Iterator[LogWritten]:
    """Yield parts by lines. Skipped output came before the lines, so the first part has its size."""
    lines = [_bounded_line(line) for line in event.lines]
    skipped = event.skipped_bytes
    room = LARGEST_EVENT_BYTES - size(msgspec.structs.replace(event, lines=[]))
    for group in _filled(lines, room, lambda line: size(line) + 1):
        yield msgspec.structs.replace(event, lines=group, skipped_bytes=skipped)
        skipped = 0


def _bounded_line(line: LogLine) -> LogLine:
    return msgspec.structs.replace(
        line, text=cut_text(line.text, LARGEST_LINE_BYTES), source=_cut_key(line.source), level=_cut_key(line.level)
    )


def _parts_of_epoch(event: EpochDone) -> Iterator[EpochDone]:
    """Yield parts by values. The first replaces earlier events of the epoch, the others add to it."""
    room = LARGEST_EVENT_BYTES - size(msgspec.structs.replace(event, values={}, nonfinite={}, part=1_000_000))
    values = [(_cut_key(name), value, event.nonfinite.get(name)) for name, value in event.values.items()]

    def taken(entry: tuple[str, float | None, str | None]) -> int:
        name, value, kind = entry
        return _pair_bytes((name, value)) + (_pair_bytes((name, kind)) if kind else 0)

    for part, group in enumerate(_filled(values, room, taken), start=event.part):
        yield msgspec.structs.replace(
            event,
            values={name: value for name, value, _ in group},
            nonfinite={name: kind for name, _, kind in group if kind},
            part=part,
        )


def _parts_of_knobs(event: KnobsChanged) -> Iterator[KnobsChanged]:
    """Yield parts by knobs. The first replaces all known knobs, the others add to it."""
    room = LARGEST_EVENT_BYTES - size(msgspec.structs.replace(event, knobs=[], part=1_000_000))
    knobs = [_bounded_knob(knob) for knob in event.knobs]
    for part, group in enumerate(_filled(knobs, room, lambda knob: size(knob) + 1), start=event.part):
        yield msgspec.structs.replace(event, knobs=group, part=part)


def _bounded_knob(knob: dict[str, Any]) -> dict[str, Any]:
    if size(knob) <= LARGEST_EVENT_BYTES // 2:
        return knob
    entries = [(_cut_key(name), bounded_value(value, SMALLER_VALUES_BYTES[-1])) for name, value in knob.items()]
    return dict(next(_filled(entries, LARGEST_EVENT_BYTES // 2, _pair_bytes)))


def _bounded_checkpoint(event: CheckpointSaved) -> CheckpointSaved:
    """Return the event with the first of its metrics, and the number of omitted ones; the checkpoint's row has them
    all.
    """
    bare = msgspec.structs.replace(
        event, name=_cut_key(event.name), reason=_cut_key(event.reason), sha256=_cut_key(event.sha256), metrics={}
    )
    room = LARGEST_EVENT_BYTES - size(msgspec.structs.replace(bare, metrics_left_out=1_000_000_000))
    entries = [(_cut_key(name), value) for name, value in event.metrics.items()]
    kept = dict(next(_filled(entries, room, _pair_bytes)))
    return msgspec.structs.replace(bare, metrics=kept, metrics_left_out=len(event.metrics) - len(kept))


def _bounded(event: AnyEvent) -> AnyEvent:
    """Return an event with long texts cut and large values replaced by a sentence, as far as needed."""
    for most in SMALLER_VALUES_BYTES:
        changed = {name: bounded_value(value, most) for name, value in msgspec.structs.asdict(event).items()}
        smaller = msgspec.structs.replace(event, **changed)
        if size(smaller) <= LARGEST_EVENT_BYTES:
            break
    return smaller


def bounded_value(value: Any, most: int) -> Any:
    """Return `value` if it has at most `most` bytes; otherwise cut its text or texts, or return a sentence."""
    if isinstance(value, str):
        return cut_text(value, most)
    if not isinstance(value, (dict, list, tuple)) or size(value) <= most:
        return value
    if isinstance(value, dict):
        # The text of a note is in an object, and the beginning is more useful than a sentence about its size.
        shortened = {key: cut_text(entry, most // 2) if isinstance(entry, str) else entry
                     for key, entry in value.items()}  # fmt: skip
        return shortened if size(shortened) <= most else {"left_out": _left_out(value)}
    return [_left_out(value)]


def _left_out(value: Any) -> str:
    return f"… ({size(value)} bytes left out)"


def _cut_key(name: str) -> str:
    return cut_text(name, LARGEST_KEY_BYTES)


def _pair_bytes(pair: tuple[str, Any]) -> int:
    """Return the bytes of a name and its value in an object, with colon and comma."""
    return size(pair[0]) + size(pair[1]) + 2


def _filled(items: Sequence[Item], room: int, taken: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield `items` in order, in groups that take at most `room`; at least one group, and at least one item in each."""
    group: list[Item] = []
    used = 0
    for item in items:
        needed = taken(item)
        if group and used + needed > room:
            yield group
            group, used = [], 0
        group.append(item)
        used += needed
    yield group
