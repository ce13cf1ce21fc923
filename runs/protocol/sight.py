"""The series that a viewer has selected; of the others only the newest points are sent, about once per second.

A viewer of a run with hundreds of series sees a few charts at a time. Points of series out of sight are removed from
events; their numbers and other fields stay. Pure functions and a collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from runs.protocol.commands import InvalidCommand
from runs.protocol.event_parts import LARGEST_EVENT_BYTES
from runs.protocol.events import Block
from runs.protocol.merged_metrics import Stored, is_metrics
from runs.protocol.messages import Newest, encode_message

# The names of series. None instead of a set means all.
Sight = frozenset[str]

# More than a page shows at once.
MOST_IN_SIGHT = 256
# Upper limits for the bytes of a point in a message without its name, which appears twice if the value is not finite,
# and of a block with one step.
POINT_BYTES, BLOCK_BYTES = 64, 128


def parse_sight(payload: dict[str, Any]) -> Sight | None:
    """Return the selection in a viewer's message. Raises `InvalidCommand`."""
    names = payload.get("series", ())
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidCommand("Send series as a list of names, or null for all.", "series")
    if len(names) > MOST_IN_SIGHT:
        raise InvalidCommand(f"Name at most {MOST_IN_SIGHT} series, or send null for all.", "series")
    return frozenset(names)


def read_metrics(frame: str) -> Stored | None:
    """Return the points in an event's frame, None if it is of another kind."""
    if not is_metrics(frame):
        return None
    try:
        return msgspec.json.decode(frame, type=Stored)
    except msgspec.DecodeError:
        # An earlier version may have stored it: viewers get all of it.
        return None


def in_sight(event: Stored, sight: Sight) -> Stored:
    """Return an event without the points of series out of sight; the same object if there are none."""
    if all(block.values.keys() <= sight for block in event.blocks):
        return event
    seen = (_block_in_sight(block, sight) for block in event.blocks)
    return msgspec.structs.replace(event, blocks=[block for block in seen if block.values])


def _block_in_sight(block: Block, sight: Sight) -> Block:
    float64 = block.float64
    return msgspec.structs.replace(
        block,
        values={name: column for name, column in block.values.items() if name in sight},
        nonfinite={name: places for name, places in block.nonfinite.items() if name in sight},
        float64=float64 if float64 is msgspec.UNSET else [name for name in float64 if name in sight],
        laps={name: lap for name, lap in block.laps.items() if name in sight} if block.laps else msgspec.UNSET,
    )


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a series. `nonfinite` names a value that is not finite; `value` is then None."""

    step: int
    time: float
    value: float | None
    nonfinite: str
    # Whether the value was shortened, and has to be rounded to float32.
    is_float32: bool

    @property
    def row(self) -> tuple[int, float, bool]:
        """Return the properties that all points of one block share."""
        return self.step, self.time, self.is_float32


class NewestPoints:
    """The newest point of each series that was logged since `clear`."""

    def __init__(self) -> None:
        self._points: dict[str, Point] = {}

    def __bool__(self) -> bool:
        return bool(self._points)

    def note(self, event: Stored) -> None:
        """Record the points of the next event. Within an event the latest time wins, as when a page reads it."""
        newest: dict[str, Point] = {}
        for block in event.blocks:
            if not block.steps:
                continue
            end = len(block.steps) - 1
            singles = set(block.values) - set(block.float64 or ()) if block.float32 is True else set()
            for name, column in block.values.items():
                known = newest.get(name)
                if known is None or known.time <= block.times[end]:
                    odd = next((kind for index, kind in block.nonfinite.get(name, ()) if index == end), "")
                    newest[name] = Point(block.steps[end], block.times[end], column[end], odd, name in singles)
        self._points |= newest

    def clear(self) -> None:
        self._points.clear()

    def messages(self, seq: int, sight: Sight, among: Sight | None = None) -> list[str]:
        """Return messages with the newest points, as of event `seq`, of series (of `among`) outside `sight`."""
        told = self._points.keys() - sight if among is None else (self._points.keys() & among) - sight
        others = [(name, point) for name, point in self._points.items() if name in told]
        others.sort(key=lambda item: item[1].row)
        return [encode_message(Newest(seq=seq, blocks=_blocks(part))) for part in _that_fit(others)]


def _that_fit(points: Iterable[tuple[str, Point]]) -> Iterator[list[tuple[str, Point]]]:
    """Yield groups of points that fit into one message each."""
    part: list[tuple[str, Point]] = []
    left = LARGEST_EVENT_BYTES
    for name, point in points:
        is_next = not part or part[-1][1].row != point.row
        size = POINT_BYTES + 2 * len(msgspec.json.encode(name)) + BLOCK_BYTES * is_next
        if part and size > left:
            yield part
            part, left = [], LARGEST_EVENT_BYTES
        part.append((name, point))
        left -= size
    if part:
        yield part


def _blocks(points: Iterable[tuple[str, Point]]) -> list[Block]:
    """Return blocks of one step each. Points with the same `row` are in one block."""
    blocks: list[Block] = []
    row = None
    for name, point in points:
        if point.row != row:
            row = point.row
            single: bool | msgspec.UnsetType = True if point.is_float32 else msgspec.UNSET
            blocks.append(Block(steps=[point.step], times=[point.time], values={}, nonfinite={}, float32=single))
        blocks[-1].values[name] = [point.value]
        if point.nonfinite:
            blocks[-1].nonfinite[name] = [(0, point.nonfinite)]
    return blocks
