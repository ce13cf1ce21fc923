"""Merges several `metrics` events into one with all their points, so that names and times occur once.

Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from runs.protocol.events import Block, Metrics

# An event's frame begins with its number and kind.
HEAD_CHARACTERS = 64
METRICS_MARK = f'"kind":"{Metrics.kind}"'


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A `metrics` event as it is in its frame; it has `first_seq` if it contains several events."""

    seq: int
    kind: str
    first_seq: int | msgspec.UnsetType = msgspec.UNSET
    at: str
    attempt: int
    step: int
    last_point_at: str
    blocks: list[Block]


def is_metrics(frame: str) -> bool:
    """Return whether an event's frame contains step metrics."""
    return METRICS_MARK in frame[:HEAD_CHARACTERS]


def merged(frames: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield (count, frame): neighbouring `metrics` events of one attempt, merged into one frame each.

    Events whose merge would not be smaller stay separate. Raises `msgspec.ValidationError` if a frame is not such an
    event.
    """
    events = [msgspec.json.decode(frame, type=Stored) for frame in frames]
    place = 0
    for _, neighbours in groupby(enumerate(events), key=_line):
        group = [event for _, event in neighbours]
        together = msgspec.json.encode(_merge(group)).decode()
        apart = frames[place : place + len(group)]
        if len(group) > 1 and len(together) < sum(map(len, apart)):
            yield len(group), together
        else:
            yield from ((1, frame) for frame in apart)
        place += len(group)


def _line(numbered: tuple[int, Stored]) -> tuple[int, int]:
    """Return a key that is equal for neighbours: the attempt, and the offset of numbers without a gap."""
    index, event = numbered
    return event.attempt, event.seq - index


def _merge(events: Sequence[Stored]) -> Stored:
    """Return the last of `events`, ordered and of one attempt, with the points of all."""
    lasting: list[list[Block]] = []
    # The position of the newest points of each series.
    newest: dict[str, int] = {}
    for event in events:
        for block in event.blocks:
            told = msgspec.structs.replace(block, seqs=[event.seq] * len(block.steps))
            places = {newest.get(name, -1) for name in block.values}
            place = places.pop() if len(places) == 1 else -1
            # A block is only joined to the newest points of all its series, so that each series keeps its order.
            if place < 0 or not _are_alike(lasting[place][0], block):
                place = len(lasting)
                lasting.append([])
            lasting[place].append(told)
            newest.update(dict.fromkeys(block.values, place))
    return msgspec.structs.replace(events[-1], first_seq=events[0].seq, blocks=[_join(blocks) for blocks in lasting])


def _are_alike(left: Block, right: Block) -> bool:
    same_names = list(left.values) == list(right.values)
    return (same_names, left.float32, left.float64, left.laps) == (True, right.float32, right.float64, right.laps)


def _join(blocks: Sequence[Block]) -> Block:
    nonfinite: dict[str, list[tuple[int, str]]] = {}
    before = 0
    for block in blocks:
        for name, replaced in block.nonfinite.items():
            nonfinite.setdefault(name, []).extend((before + index, kind) for index, kind in replaced)
        before += len(block.steps)
    return msgspec.structs.replace(
        blocks[0],
        steps=[step for block in blocks for step in block.steps],
        times=[time for block in blocks for time in block.times],
        values={name: [value for block in blocks for value in block.values[name]] for name in blocks[0].values},
        nonfinite=nonfinite,
        seqs=[seq for block in blocks for seq in block.seqs or ()],
    )
