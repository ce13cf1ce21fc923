"""Series of a run: stores their latest points, and compacts stored events into chunks.

Points arrive in events, one per tick; `fold` moves them into `Chunk` rows. `runs.series.charts` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import msgspec
import numpy as np
from django.db import connection, transaction
from django.db.models import Max, QuerySet

from runs.models import Axis, Chunk, Run, Series, StoredEvent
from runs.protocol.events import Block, LineUnfinished, Metrics, SystemSampled, decode_event
from runs.protocol.nonfinite import name_nonfinite
from runs.series.chunk_rows import ChunkWriter
from runs.series.float32 import exact_columns, extremes_of
from runs.series.packing.chunks import Points, make_points
from runs.statements import repeated

# Samples of the machine are plotted over time, everything else over steps.
TIME_PREFIXES = ("gpu/", "host/")
POINT_KINDS = (Metrics.kind, SystemSampled.kind)
# The number of events compacted in one transaction: about a minute of training, some tens of milliseconds of lock.
# Events of a burst are as large as a frame may be, so their characters are limited too: decoded points take ten times
# their memory.
FOLDED_AT_ONCE = 1000
CHARACTERS_FOLDED_AT_ONCE = 4 << 20
FRAMES_A_READ = 32

# Compacting takes milliseconds and happens every few seconds, so even two in a row during one read are rare.
READ_ATTEMPTS = 4

Result = TypeVar("Result")
PartKey = tuple[int, int, str]  # attempt, lap, name of the series

# The columns of a new series, and how those of a known one change.
NEWEST = ("last_step", "last_time", "last_value", "last_nonfinite")
LATEST = ("run_id", "name", "axis", *NEWEST, "least_value", "greatest_value")
CHANGED = {"overwritten": NEWEST, "lowered": ("least_value",), "raised": ("greatest_value",)}

NOT_A_NUMBER = float("nan")
NONFINITE = {"nan": NOT_A_NUMBER, "inf": float("inf"), "-inf": float("-inf")}


@dataclass(slots=True)
class Columns:
    """Points of one series in one lap of an attempt, as read from events; `times` in seconds."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def put_in_order(self, start: int) -> None:
        """Sort the points from `start` on by time and step; the sort is stable."""
        order = sorted(range(start, len(self.steps)), key=lambda place: (self.times[place], self.steps[place]))
        self.steps[start:] = [self.steps[place] for place in order]
        self.times[start:] = [self.times[place] for place in order]
        self.values[start:] = [self.values[place] for place in order]


def axis_of(name: str) -> Axis:
    """Return the axis over which a series of this name is plotted."""
    return Axis.TIME if name.startswith(TIME_PREFIXES) else Axis.STEP


def points_of(
    event: Metrics | SystemSampled,
) -> Iterator[tuple[str, int, Sequence[int], Sequence[float], Sequence[float]]]:
    """Yield (name, lap, steps, times, values) of an event, with NaN and infinities restored.

    Failed samples of the machine are left out, because they are not points.
    """
    if isinstance(event, SystemSampled):
        for name, value in event.values.items():
            if value is not None:
                yield name, 0, [event.step], [event.time], [value]
        return
    for block in event.blocks:
        laps = block.laps or {}
        for name, column in exact_columns(block).items():
            if not column:
                continue
            values = [NOT_A_NUMBER if value is None else value for value in column] if None in column else column
            for index, kind in block.nonfinite.get(name, ()):
                values[index] = NONFINITE[kind]
            yield name, laps.get(name, 0), block.steps, block.times, cast("list[float]", values)


def last_points_of(event: Metrics | SystemSampled) -> Iterator[tuple[str, int, float, float]]:
    """Yield (name, step, time, value) of the last point of each series in an event, as `points_of` does."""
    if isinstance(event, Metrics):
        event = msgspec.structs.replace(event, blocks=[_end_of(block) for block in event.blocks])
    for name, _lap, steps, times, values in points_of(event):
        yield name, steps[-1], times[-1], values[-1]


def _end_of(block: Block) -> Block:
    """Return a block with only the last point of each column."""
    last = len(block.steps) - 1
    return msgspec.structs.replace(
        block,
        steps=block.steps[-1:],
        times=block.times[-1:],
        values={name: column[-1:] for name, column in block.values.items()},
        nonfinite={
            name: [(0, kind) for place, kind in named if place == last] for name, named in block.nonfinite.items()
        },
    )


def _with_column(block: Block, name: str) -> Block:
    """Return a block with only the column `name`, if it has one."""
    return msgspec.structs.replace(block, values={name: block.values[name]} if name in block.values else {})


class Extremes(dict[str, tuple[float, float]]):
    """The least and the greatest finite value by series."""

    def add(self, name: str, low: float, high: float) -> None:
        """Take the values of some more points."""
        if (known := self.get(name)) is not None:
            low, high = min(low, known[0]), max(high, known[1])
        self[name] = (low, high)

    def add_event(self, event: Metrics | SystemSampled) -> None:
        """Take the values of all points of an event."""
        if isinstance(event, SystemSampled):
            for name, value in event.values.items():
                if value is not None:
                    self.add(name, value, value)
            return
        for block in event.blocks:
            for name, (low, high) in extremes_of(block).items():
                self.add(name, low, high)


def update_latest(run_id: int, events: Iterable[Metrics | SystemSampled], *, only_new: bool = False) -> None:
    """Store the latest point of every series in `events`, and its least and greatest value; new series get a row.

    With `only_new`, known series keep their latest point. If several blocks of an event have points of a series, they
    are ordered by time, as on a page. Takes one statement, whatever the number of points. Call inside the transaction
    that stores the events.
    """
    latest: dict[str, tuple[int, float, float]] = {}
    extremes = Extremes()
    for event in events:
        extremes.add_event(event)
        newest: dict[str, float] = {}
        for name, step, time, value in last_points_of(event):
            if time >= newest.get(name, time):
                newest[name] = time
                latest[name] = (step, time, value)
    if latest:
        rows = [_latest(run_id, name, *point, extremes) for name, point in latest.items()]
        changed = CHANGED | {"overwritten": ()} if only_new else CHANGED
        repeated.insert(Series, LATEST, rows, unique=("run_id", "name"), **changed)


def fold(run_id: int, before_seq: int | None = None, keep_latest: int = 0) -> int:
    """Move points of stored events into chunks, delete those events, and return the number of points moved.

    Takes events with seq < `before_seq` (all by default) except the `keep_latest` newest numbers of the run, which
    viewers that reconnect may need. `Run.replay_from` rises to the last event taken, in the same transaction; a long
    backlog is taken in several transactions. Raises `Run.DoesNotExist` if there is no such run.
    """
    folded = 0
    while True:
        with transaction.atomic():
            # The row lock serializes processes that compact, and blocks `feed.append` until the events are deleted.
            run = Run.objects.select_for_update().only("last_seq", "replay_from").get(pk=run_id)
            bound = run.last_seq - keep_latest
            if before_seq is not None:
                bound = min(bound, before_seq - 1)
            events = StoredEvent.objects.filter(run_id=run_id, kind__in=POINT_KINDS, seq__lte=bound)
            rows = _some_frames(events)
            if not rows:
                return folded
            folded += store_points(
                run_id,
                {
                    key: make_points(columns.steps, columns.times, columns.values)
                    for key, columns in collect(frame for _, frame in rows).items()
                },
            )
            last = rows[-1][0]
            events.filter(seq__lte=last).delete()
            _forget_overwritten_lines(run_id, last)
            Run.objects.filter(pk=run_id).update(replay_from=max(last, run.replay_from))


def _some_frames(events: QuerySet[StoredEvent]) -> list[tuple[int, str]]:
    """Return (seq, frame) of the first events, as many as are compacted at once."""
    rows: list[tuple[int, str]] = []
    characters = 0
    found = events.order_by("seq").values_list("seq", "frame")[:FOLDED_AT_ONCE]
    for seq, frame in found.iterator(chunk_size=FRAMES_A_READ):
        rows.append((seq, frame))
        characters += len(frame)
        if characters >= CHARACTERS_FOLDED_AT_ONCE:
            break
    return rows


def _forget_overwritten_lines(run_id: int, bound: int) -> None:
    """Delete all events of incomplete lines up to `bound` except the newest: a progress bar may run for days."""
    told = StoredEvent.objects.filter(run_id=run_id, kind=LineUnfinished.kind, seq__lte=bound)
    newest = told.aggregate(seq=Max("seq"))["seq"]
    if newest is not None:
        told.filter(seq__lt=newest).delete()


def collect(frames: Iterable[str], only: str | None = None) -> dict[PartKey, Columns]:
    """Return the points of stored frames by (attempt, lap, name), in the order of logging; those of `only` if given.

    An event has a block for each set of names that were logged together. If a series was logged with different sets, it
    is in several blocks: its points are sorted by time, those of one millisecond by step.
    """
    collected: dict[PartKey, Columns] = {}
    for frame in frames:
        event = decode_event(frame)
        if isinstance(event, (Metrics, SystemSampled)):
            if only is not None and isinstance(event, Metrics):
                event = msgspec.structs.replace(event, blocks=[_with_column(block, only) for block in event.blocks])
            begun: dict[PartKey, int] = {}
            mixed: set[PartKey] = set()
            for name, lap, steps, times, values in points_of(event):
                key = (event.attempt, lap, name)
                columns = collected.setdefault(key, Columns())
                if key in begun:
                    mixed.add(key)
                else:
                    begun[key] = len(columns.steps)
                columns.steps.extend(steps)
                columns.times.extend(times)
                columns.values.extend(values)
            for key in mixed:
                collected[key].put_in_order(begun[key])
    return collected


def tail(run_id: int, seq: int) -> dict[PartKey, Columns]:
    """Return the points up to `seq` that are not compacted yet, by (attempt, lap, name)."""
    return collect(_frames(run_id, seq))


def points_by_key(unfolded: dict[PartKey, Columns], ids: dict[str, int]) -> dict[tuple[int, int, int], Points]:
    """Return points by (series, attempt, lap) of the series whose names are in `ids`."""
    return {
        (ids[name], attempt, lap): make_points(columns.steps, columns.times, columns.values)
        for (attempt, lap, name), columns in unfolded.items()
        if name in ids
    }


def _frames(run_id: int, seq: int) -> Iterator[str]:
    """Yield the frames of events with points up to `seq`, in order. In SQL, because charts are read often and the ORM
    is slower.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT "frame" FROM "runs_storedevent" '
            'WHERE "run_id" = %s AND "kind" IN (%s, %s) AND "seq" <= %s ORDER BY "seq"',
            (run_id, *POINT_KINDS, seq),
        )
        while rows := cursor.fetchmany(FRAMES_A_READ):
            yield from (frame for (frame,) in rows)


def read_settled(run_id: int, read: Callable[[int], Result]) -> tuple[int, Result]:
    """Return (seq, result of `read(seq)`), read while no compaction or pruning moved points.

    A compaction between two statements may hide points or show them twice. It always raises `Run.replay_from`, and a
    pruning `Run.thinnings`, so reading is repeated if one of them changed. A transaction would instead take SQLite's
    write lock from the training. Raises `Run.DoesNotExist` if there is no such run.
    """
    for _attempt in range(READ_ATTEMPTS):
        seq, *moved = _numbers(run_id)
        result = read(seq)
        if _numbers(run_id)[1:] == tuple(moved):
            return seq, result
    with transaction.atomic():
        seq = Run.objects.select_for_update().get(pk=run_id).last_seq
        return seq, read(seq)


def _numbers(run_id: int) -> tuple[int, int, int]:
    """Return the last event of a run, the last compacted one, and how often the run was thinned."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT "last_seq", "replay_from", "thinnings" FROM "runs_run" WHERE "id" = %s', (run_id,))
        row = cursor.fetchone()
    if row is None:
        raise Run.DoesNotExist(f"there is no run {run_id}")
    return row[0], row[1], row[2]


def tails(bounds: dict[int, int]) -> dict[int, dict[PartKey, Columns]]:
    """Return by run the points up to its event in `bounds` that are not compacted yet. One query for all runs."""
    frames: dict[int, list[str]] = {}
    if bounds:
        found = StoredEvent.objects.filter(run_id__in=bounds, kind__in=POINT_KINDS).order_by("run_id", "seq")
        for run_id, seq, frame in found.values_list("run_id", "seq", "frame").iterator(chunk_size=FRAMES_A_READ):
            if seq <= bounds[run_id]:
                frames.setdefault(run_id, []).append(frame)
    return {run_id: collect(own) for run_id, own in frames.items()}


def read_all_settled(run_ids: Sequence[int], read: Callable[[dict[int, int]], Result]) -> Result:
    """Return the result of `read({run: its last event})`, read while no points of these runs moved: see `read_settled`.

    Runs that do not exist are left out.
    """
    runs = Run.objects.filter(pk__in=run_ids).order_by("pk")
    for _attempt in range(READ_ATTEMPTS):
        before = list(runs.values_list("pk", "last_seq", "replay_from", "thinnings"))
        result = read({pk: seq for pk, seq, *_ in before})
        after = runs.values_list("pk", "replay_from", "thinnings")
        if list(after) == [(pk, *moved) for pk, _, *moved in before]:
            return result
    with transaction.atomic():
        return read(dict(runs.select_for_update().values_list("pk", "last_seq")))


def _latest(run_id: int, name: str, step: int, time: float, value: float, extremes: Extremes) -> tuple[Any, ...]:
    """Return the columns `LATEST` of a series."""
    ends = extremes.get(name, (None, None))
    if math.isfinite(value):
        return (run_id, name, axis_of(name), step, time, value, "", *ends)
    return (run_id, name, axis_of(name), step, time, None, name_nonfinite(value), *ends)


def _with_latest(run_id: int, name: str, step: int, time: float, value: float, extremes: Extremes) -> Series:
    return Series(**dict(zip(LATEST, _latest(run_id, name, step, time, value, extremes), strict=True)))


def store_points(run_id: int, collected: dict[PartKey, Points]) -> int:
    """Append points by (attempt, lap, name) to the chunks of their series and return their number.

    Call inside the transaction that removes them from their old place.
    """
    ids = _series_ids(run_id, collected)
    last_chunks = _last_chunks(list(ids.values()), {(attempt, lap) for attempt, lap, _ in collected})
    writer = ChunkWriter(run_id)
    for (attempt, lap, name), points in collected.items():
        key = (ids[name], attempt, lap)
        writer.extend(key, last_chunks.get(key), points)
    writer.save()
    return sum(map(len, collected.values()))


def replace_points(run_id: int, series_id: int, attempt: int, laps: dict[int, Points]) -> None:
    """Replace all stored points of a series in some laps. Call inside a transaction."""
    writer = ChunkWriter(run_id)
    for lap, points in laps.items():
        writer.remove((series_id, attempt, lap))
        writer.extend((series_id, attempt, lap), None, points)
    writer.save()


def _series_ids(run_id: int, collected: dict[PartKey, Points]) -> dict[str, int]:
    ids = dict(Series.objects.filter(run_id=run_id).values_list("name", "pk"))
    extremes = Extremes()
    for (_, _, name), points in collected.items():
        if name not in ids and len(finite := points.values[np.isfinite(points.values)]):
            extremes.add(name, float(finite.min()), float(finite.max()))
    missing = {
        name: _with_latest(
            run_id, name, int(points.steps[-1]), float(points.times_ms[-1]) / 1000, float(points.values[-1]), extremes
        )
        for (_, _, name), points in sorted(collected.items(), key=lambda item: item[0])
        if name not in ids
    }
    if missing:
        Series.objects.bulk_create(missing.values())
        ids = dict(Series.objects.filter(run_id=run_id).values_list("name", "pk"))
    return ids


def _last_chunks(series_ids: Sequence[int], laps: set[tuple[int, int]]) -> dict[tuple[int, int, int], Chunk]:
    # Chunks of a lap are created in the order of their index, so the newest key is the last chunk.
    newest = (
        Chunk.objects.filter(
            series_id__in=series_ids, attempt__in={attempt for attempt, _ in laps}, lap__in={lap for _, lap in laps}
        )
        .order_by()
        .values("series_id", "attempt", "lap")
        .annotate(newest=Max("pk"))
        .values_list("newest", flat=True)
    )
    chunks = Chunk.objects.filter(pk__in=list(newest)).select_related("places")
    return {(chunk.series_id, chunk.attempt, chunk.lap): chunk for chunk in chunks}
