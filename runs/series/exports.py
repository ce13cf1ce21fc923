"""CSV of recorded data: epochs, commands, every point of every series. Memory does not grow with the length of a run.

Numbers are written so that reading them gives the same bits; what is not finite is written nan, inf or -inf. The column
`abandoned` is 1 in epochs and points after the step to which the run was rolled back later.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from django.db.models import Q, Sum

from runs.models import Axis, Branch, Chunk, Command, EpochMetric, Run
from runs.protocol.series_names import natural_key
from runs.series.chunk_rows import points_of
from runs.series.packing.chunks import Points, make_points
from runs.series.storage import Columns, read_settled, tail

# The size of a block: small compared with a page of chunks, large compared with the cost of a block.
EPOCHS_A_BLOCK = 500
CHUNKS_A_READ = 8
# A spreadsheet interprets a cell that begins like this as a formula (CWE-1236), also after blanks and zero-width
# characters, and with the wide forms of East Asian keyboards.
FORMULA = re.compile(r"[\t\r\n]|[\s\u200b\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
SERIES_HEAD = ("run", "run_name", "series", "attempt", "lap", "step", "time", "value", "abandoned")
COMMANDS_A_BLOCK = 500
COMMAND_HEAD = (
    "run", "run_name", "id", "command", "arguments", "state", "author", "author_id", "reason", "outcome", "attempt",
    "step", "ranks", "old", "new", "effective", "at_step", "at_epoch", "at_roll_backs", "expected_state",
    "expected_value", "sent_at", "delivered_at", "applied_at", "expires_at",
)  # fmt: skip
BRANCH_HEAD = (
    "run", "run_name", "source", "source_name", "checkpoint", "step", "epoch", "kind", "name", "group", "old", "new",
)  # fmt: skip
EPOCH_HEAD = (
    "run", "run_name", "attempt", "epoch", "order", "step", "at", "duration_s", "best", "abandoned",
    *EpochMetric.COLUMNS,
)  # fmt: skip


class _Line:
    """The file of a `csv.writer`, which returns each line."""

    def write(self, text: str) -> str:
        return text


_writer = csv.writer(_Line())


def epochs_csv(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the epochs of `runs` in blocks of lines: oldest first, superseded ones included.

    Further columns that a recipe reports follow the usual ones, ordered by name.
    """
    chosen = list(runs)
    extras = _extra_names(chosen)
    # A training may use the name of one of our columns, and a reader by names must find both.
    yield line([*EPOCH_HEAD, *(f"values/{name}" if name in EPOCH_HEAD else name for name in extras)])
    for run in chosen:
        place = (-1, -1, -1)
        while found := _epochs_after(run, place):
            yield "".join(line(_epoch_cells(run, epoch, extras)) for epoch in found)
            place = (found[-1].attempt, found[-1].epoch, found[-1].order)


def commands_csv(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the command logs of `runs` in blocks of lines, oldest command first.

    Arguments are JSON, and so are values other than numbers and texts.
    """
    yield line(COMMAND_HEAD)
    for run in runs:
        commands = run.commands.order_by("sent_at", "id")
        place = 0
        while found := list(commands[place : place + COMMANDS_A_BLOCK]):
            yield "".join(line(_command_cells(run, command)) for command in found)
            place += len(found)


def branches_csv(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the sources of the branches among `runs`: a line for each value that differs, one line if none does.

    Values other than numbers and texts are written as JSON.
    """
    yield line(BRANCH_HEAD)
    for run in runs:
        branch = Branch.objects.filter(run=run).prefetch_related("changes").first()
        if branch is None:
            continue
        head = [
            run.pk, run.name, branch.source_number, branch.source_name, branch.checkpoint_name, branch.step,
            branch.epoch,
        ]  # fmt: skip
        changes = [
            [each.kind, each.name, each.group, _value(each.old), _value(each.new)] for each in branch.changes.all()
        ]
        yield "".join(line([*head, *cells]) for cells in changes or [[""] * 5])


def series_csv(runs: Iterable[Run]) -> Iterator[str]:
    """Yield every point of every series of `runs` in blocks of lines, each run as of the beginning of its part.

    Times are UTC, to the millisecond.
    """
    yield line(SERIES_HEAD)
    for run in runs:
        # Points that are compacted meanwhile are appended to the chunks, so the numbers of points limit the reading.
        _seq, (counts, rest) = read_settled(run.pk, lambda seq, run=run: (_counts(run), tail(run.pk, seq)))  # type: ignore[misc]
        last_steps = _LastSteps(run)
        for series_id, name, attempt, lap, count in counts:
            head, last = (run.pk, run.name, name, attempt, lap), last_steps.of(name, attempt, lap)
            for points in _chunks(series_id, attempt, lap, count):
                yield _lines(head, points, last)
            columns = rest.pop((attempt, lap, name), None)
            if columns is not None:
                yield _lines(head, _points(columns), last)
        for (attempt, lap, name), columns in sorted(rest.items(), key=lambda item: (item[0][2], item[0][:2])):
            head, last = (run.pk, run.name, name, attempt, lap), last_steps.of(name, attempt, lap)
            yield _lines(head, _points(columns), last)


def line(cells: Iterable[Any]) -> str:
    """Return one line of CSV. Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    written: str = _writer.writerow([_cell(cell) for cell in cells])
    return written


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if FORMULA.match(value) else value
    if isinstance(value, float):
        return repr(value)
    return value


def _number(value: float | None, nonfinite: str | None) -> float | None:
    return float(nonfinite) if nonfinite else value


def _extra_names(runs: list[Run]) -> list[str]:
    names: set[str] = set()
    for run in runs:
        for extra in run.epochs.order_by().values_list("extra", flat=True).iterator(chunk_size=EPOCHS_A_BLOCK):
            names.update(extra)
    return sorted(names, key=natural_key)


def _epochs_after(run: Run, place: tuple[int, int, int]) -> list[EpochMetric]:
    attempt, epoch, order = place
    behind = Q(epoch__gt=epoch) | Q(epoch=epoch, order__gt=order)
    same = run.epochs.filter(behind, attempt=attempt).order_by("epoch", "order")[:EPOCHS_A_BLOCK]
    found = list(same)
    if not found:
        later = run.epochs.filter(attempt__gt=attempt).order_by("attempt", "epoch", "order")[:EPOCHS_A_BLOCK]
        found = list(later)
    return found


def _epoch_cells(run: Run, epoch: EpochMetric, extras: list[str]) -> list[Any]:
    columns = {name: getattr(epoch, name) for name in EpochMetric.COLUMNS} | epoch.extra
    return [
        run.pk, run.name, epoch.attempt, epoch.epoch, epoch.order, epoch.step, epoch.at.isoformat(),
        epoch.duration_s, int(epoch.best), int(epoch.abandoned),
        *(_number(columns.get(name), epoch.nonfinite.get(name)) for name in (*EpochMetric.COLUMNS, *extras)),
    ]  # fmt: skip


def _command_cells(run: Run, command: Command) -> list[Any]:
    values = (command.old_value, command.new_value, command.effective_value)
    moments = (command.sent_at, command.delivered_at, command.applied_at, command.expires_at)
    return [
        run.pk, run.name, command.pk, command.kind, json.dumps(command.arguments), command.state, command.author_name,
        command.author_id, command.reason, command.outcome, command.attempt, command.step, command.ranks,
        *map(_value, values),
        command.at_step, command.at_epoch, command.at_roll_backs, command.expected_state,
        _value(command.expected_value),
        *(moment.isoformat() if moment else None for moment in moments),
    ]  # fmt: skip


def _value(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (bool, dict, list)) else value


def _counts(run: Run) -> list[tuple[int, str, int, int, int]]:
    chunks = Chunk.objects.filter(series__run=run).order_by("series__name", "attempt", "lap")
    totals = chunks.values("series_id", "series__name", "attempt", "lap").annotate(total=Sum("count"))
    return list(totals.values_list("series_id", "series__name", "attempt", "lap", "total"))


def _chunks(series_id: int, attempt: int, lap: int, count: int) -> Iterator[Points]:
    """Yield the first `count` points, a chunk at a time. No cursor stays open while a slow client reads."""
    index = -1
    chunks = Chunk.objects.filter(series_id=series_id, attempt=attempt, lap=lap).order_by("index")
    while count > 0:
        rows = list(chunks.filter(index__gt=index).select_related("places")[:CHUNKS_A_READ])
        if not rows:
            return
        index = rows[-1].index
        for chunk in rows:
            points = points_of(chunk).part(slice(0, count))
            count -= len(points)
            if len(points):
                yield points


def _points(columns: Columns) -> Points:
    return make_points(columns.steps, columns.times, columns.values)


class _LastSteps:
    """The steps after which the points of a run are abandoned, because it was rolled back to them later."""

    def __init__(self, run: Run) -> None:
        # Samples of the machine are taken whatever the training does.
        self._steps = set(run.series.filter(axis=Axis.STEP).values_list("name", flat=True))
        self._roll_backs = [
            ((attempt, lap), step)
            for attempt, roll_backs in run.attempts.values_list("number", "roll_backs")
            for lap, step in roll_backs
        ]

    def of(self, series: str, attempt: int, lap: int) -> float:
        """Return the last step of a lap that is not abandoned, infinity if it has no such step."""
        if series not in self._steps:
            return math.inf
        return min((step for since, step in self._roll_backs if (attempt, lap) < since), default=math.inf)


def _lines(head: tuple[int, str, str, int, int], points: Points, last_step: float) -> str:
    prefix = line(head).rstrip("\r\n")
    times = np.datetime_as_string(points.times_ms.astype("datetime64[ms]"), unit="ms")
    return "".join(
        f"{prefix},{step},{time}Z,{value!r},{int(step > last_step)}\r\n"
        for step, time, value in zip(points.steps.tolist(), times.tolist(), points.values.tolist(), strict=True)
    )
