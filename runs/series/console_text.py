"""The console of a run in the database: limited in size, and read as a text.

The first part and the last part stay; between them, one event counts the text that was left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.db.models.functions import Length

from runs.models import Run, StoredEvent
from runs.protocol.events import LogLine, LogWritten, encode_event
from runs.series.storage import fold

# Events left out in one transaction: some tens of milliseconds of lock.
LEFT_OUT_AT_ONCE = 500
# What Steersman itself said in the middle of a console stays: the newest lines, so that an event holds them.
MOST_NOTES = 100
MOST_NOTE_CHARACTERS = 8_000
EVENTS_A_BLOCK = 100


def bound_console(run_id: int, largest_characters: int) -> int:
    """Leave out the middle of a console whose events have more characters; return how many events were deleted.

    The first quarter of `largest_characters` stays, and the newest half. In between stands one event whose
    `skipped_bytes` counts the output that was left out; its lines are what Steersman itself said meanwhile.
    `Run.replay_from` rises to the last event deleted: a viewer who holds less loads the history again. A long middle
    is left out in several transactions, each of which leaves the console whole.
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
    # Points must not lie before the place from which events are complete.
    fold(run_id, before_seq=sizes[behind - 1][0] + 1)
    return _leave_out(run_id, sizes[first][0], sizes[behind - 1][0])


def middle(sizes: Sequence[int], largest: int) -> tuple[int, int]:
    """Return the places [first, behind) of what is left out so that a quarter, then a half of `largest` stay.

    The last one always stays.
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
    """Yield the console of a run as text, in blocks of lines; what Steersman said is marked, and what was left out."""
    after = 0
    while found := list(_written(run.pk).filter(seq__gt=after).values_list("seq", "frame")[:EVENTS_A_BLOCK]):
        after = found[-1][0]
        yield "".join(_lines(_read(frame)) for _, frame in found)


def _lines(event: LogWritten) -> str:
    lines = [f"[{event.skipped_bytes} bytes of output were left out here]\n"] if event.skipped_bytes else []
    for line in event.lines:
        lines.append(f"{line.text}\n" if line.source == "console" else f"[{line.source}: {line.level}] {line.text}\n")
    return "".join(lines)


def _leave_out(run_id: int, first: int, last: int) -> int:
    """Put one event in place of those with numbers from `first` to `last`, as the first of them."""
    deleted = 0
    while True:
        with transaction.atomic():
            # The row lock keeps two processes apart.
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
