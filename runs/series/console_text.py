"""The console of a run in the database: bounded in size, and read as text.

The beginning and the end stay; between them, one event has the size of the removed text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.db.models.functions import Length

from runs.models import Run, StoredEvent
from runs.protocol.events import LogLine, LogWritten, encode_event, iso
from runs.series.storage import fold

# Events that one transaction removes: some tens of milliseconds of lock.
LEFT_OUT_AT_ONCE = 500
# Steersman's own messages in the removed part stay: the newest lines, as many as fit into an event.
MOST_NOTES = 100
MOST_NOTE_CHARACTERS = 8_000
EVENTS_A_BLOCK = 100
# A search returns at most this many lines, the newest.
MOST_FOUND = 200
# As in static/js/panels/terminal/ansi.js.
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
PROBLEMS, ERRORS = ("warning", "error", "critical"), ("error", "critical")
# The choices of lines on the page of a run.
LINES_OF: dict[str, Callable[[LogLine], bool]] = {
    "": lambda line: True,
    "problems": lambda line: line.level in PROBLEMS,
    "errors": lambda line: line.level in ERRORS,
    "steersman": lambda line: line.source == "steersman",
}


def bound_console(run_id: int, largest_characters: int) -> int:
    """Remove the middle of a console whose events have more characters; return how many events were deleted.

    The first quarter of `largest_characters` stays, and the newest half. Between them is one event whose
    `skipped_bytes` counts the removed output; its lines are Steersman's own messages. `Run.replay_from` rises to the
    last deleted event: a viewer with earlier events loads the history again. A long middle is removed in several
    transactions, each of which leaves the console complete.
    """
    written = _written(run_id).annotate(size=Length("frame"))
    if (written.order_by().aggregate(total=Sum("size"))["total"] or 0) <= largest_characters:
        return 0
    sizes = list(written.values_list("seq", "size"))
    first, behind = middle([size for _, size in sizes], largest_characters)
    if first and _is_gap(_read(written.get(seq=sizes[first - 1][0]).frame)):
        first -= 1
    if behind - first < 2:
        return 0
    # Points must not be stored before the position from which events are complete.
    fold(run_id, before_seq=sizes[behind - 1][0] + 1)
    return _leave_out(run_id, sizes[first][0], sizes[behind - 1][0])


def middle(sizes: Sequence[int], largest: int) -> tuple[int, int]:
    """Return the range [first, behind) to remove, so that a quarter and then a half of `largest` stay.

    The last event always stays.
    """
    first = kept = 0
    while first < len(sizes) - 1 and kept + sizes[first] <= largest // 4:
        kept += sizes[first]
        first += 1
    behind, kept = len(sizes) - 1, sizes[-1]
    while behind > first and kept + sizes[behind - 1] <= largest // 2:
        behind -= 1
        kept += sizes[behind]
    return first, behind


def console_text(run: Run) -> Iterator[str]:
    """Yield the console of a run as text, in blocks of lines; Steersman's messages and removed parts are marked."""
    for _, event in written_events(run.pk):
        yield _lines(event)


def written_events(run_id: int) -> Iterator[tuple[datetime, LogWritten]]:
    """Yield what was written to the console of a run, oldest first, with its times."""
    after = 0
    while found := list(_written(run_id).filter(seq__gt=after).values_list("seq", "at", "frame")[:EVENTS_A_BLOCK]):
        after = found[-1][0]
        for _, at, frame in found:
            yield at, _read(frame)


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line without its colours, and when it was stored."""

    at: str
    text: str
    source: str
    level: str


@dataclass(frozen=True, slots=True)
class FoundLines:
    """The number of all lines that were found, and the newest of them, oldest first."""

    total: int
    lines: list[FoundLine]


def find_lines(run_id: int, part: str, choice: str = "") -> FoundLines:
    """Find the stored lines of a run that contain `part` in any case, and are of a choice of `LINES_OF`."""
    wanted = part.casefold()
    total = 0
    newest: deque[tuple[datetime, LogLine, str]] = deque(maxlen=MOST_FOUND)
    for at, event in written_events(run_id):
        for line in event.lines:
            if not LINES_OF[choice](line):
                continue
            text = plain_text(line.text)
            if wanted in text.casefold():
                total += 1
                newest.append((at, line, text))
    lines = [FoundLine(iso(at), text, line.source, line.level) for at, line, text in newest]
    return FoundLines(total, lines)


def plain_text(text: str) -> str:
    """Return text of a terminal without its escape sequences and control characters, as the page shows it."""
    return CONTROL.sub("", ANSI.sub("", text)) if CONTROL.search(text) else text


def _lines(event: LogWritten) -> str:
    lines = [f"[{event.skipped_bytes} bytes of output were left out here]\n"] if event.skipped_bytes else []
    for line in event.lines:
        lines.append(f"{line.text}\n" if line.source == "console" else f"[{line.source}: {line.level}] {line.text}\n")
    return "".join(lines)


def _leave_out(run_id: int, first: int, last: int) -> int:
    """Replace the events with numbers from `first` to `last` by one event with the number of the first."""
    deleted = 0
    while True:
        with transaction.atomic():
            # The row lock serializes concurrent processes.
            run = Run.objects.select_for_update().only("replay_from").get(pk=run_id)
            events = list(_written(run_id).filter(seq__gte=first, seq__lte=last)[: LEFT_OUT_AT_ONCE + 1])
            if len(events) < 2:
                return deleted
            Run.objects.filter(pk=run_id).update(replay_from=max(run.replay_from, events[-1].seq))
            gap, *others = events
            gap.frame = encode_event(_gap_of([_read(event.frame) for event in events]), gap.seq, gap.at)
            gap.save(update_fields=["frame"])
            StoredEvent.objects.filter(pk__in=[event.pk for event in others]).delete()
        deleted += len(others)


def _gap_of(events: Sequence[LogWritten]) -> LogWritten:
    """Return the event that replaces others."""
    left_out = 0
    notes: list[LogLine] = []
    for event in events:
        left_out += event.skipped_bytes
        for line in event.lines:
            if line.source == "console":
                left_out += len(line.text.encode()) + 1
            else:
                notes.append(line)
    kept: list[LogLine] = []
    characters = 0
    for note in reversed(notes):
        characters += len(note.text)
        if len(kept) < MOST_NOTES and characters <= MOST_NOTE_CHARACTERS:
            kept.insert(0, note)
        else:
            left_out += len(note.text.encode()) + 1
    return LogWritten(attempt=events[0].attempt, lines=kept, skipped_bytes=left_out)


def _is_gap(event: LogWritten) -> bool:
    return event.skipped_bytes > 0 and all(line.source != "console" for line in event.lines)


def _written(run_id: int) -> QuerySet[StoredEvent]:
    return StoredEvent.objects.filter(run_id=run_id, kind=LogWritten.kind).order_by("seq")


def _read(frame: str) -> LogWritten:
    return msgspec.json.decode(frame, type=LogWritten)
