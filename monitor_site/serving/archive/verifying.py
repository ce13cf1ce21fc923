"""Checks everything that is stored: events without gaps, journals, chunks, checkpoints, and files without rows.

Trainings continue meanwhile, so a problem of a live run only counts if it is found again after a while.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
from django.db import connection
from django.db.models import Count, F, Q

from runs.branching.origin import STAGED
from runs.models import (
    ORIGIN_ATTEMPT,
    Attempt,
    Branch,
    Checkpoint,
    Chunk,
    JournalOffset,
    Run,
    RunState,
    StoredEvent,
)
from runs.protocol.events import decode_event
from runs.recording.lifecycle import LIVE
from runs.series.chunk_rows import points_of
from runs.series.packing.chunks import CHUNK_POINTS, COARSE_POINTS, FINE_POINTS, Packed, unpack_buckets, unpack_groups
from runs.series.storage import POINT_KINDS
from steersman.agent.folders import attempt_folder, run_folder
from steersman.agent.journals.tail import JournalTail
from steersman.files.checkpoint import MANIFEST, Damaged, is_whole, verify, verify_checkpoint
from steersman.files.journal import segment_path
from steersman.messages.reports import Position
from steersman.records.kinds import CheckpointRecord

# Checkpoints that a training removes or saves are in its journal, which is read within a tick.
LOOKS, BETWEEN_LOOKS_S = 4, 0.5
PAUSED_OR_LIVE = (*LIVE, RunState.LOST)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and its remedy. `kind` is one of database, gap, event, position, chunk, hash, missing, orphan."""

    run: int | None
    kind: str
    text: str
    remedy: str


def verify_installation(data: Path, run_id: int | None = None) -> Iterator[Finding]:
    """Yield all problems of the runs and their files, or of one run if `run_id` is given."""
    if run_id is None:
        yield from _database()
    chosen = Run.objects.all() if run_id is None else Run.objects.filter(pk=run_id)
    for pk in chosen.order_by("pk").values_list("pk", flat=True):
        yield from _confirmed(data, pk)
    if run_id is None:
        yield from _folders_without_runs(data)


def _confirmed(data: Path, run_id: int) -> list[Finding]:
    found = list(_of_run(data, run_id))
    for _ in range(LOOKS - 1):
        if not found or not Run.objects.filter(pk=run_id, state__in=PAUSED_OR_LIVE).exists():
            break
        time.sleep(BETWEEN_LOOKS_S)
        again = set(_of_run(data, run_id))
        found = [each for each in found if each in again]
    return found if Run.objects.filter(pk=run_id).exists() else []


def _of_run(data: Path, run_id: int) -> Iterator[Finding]:
    yield from _events(run_id)
    yield from _chunks(run_id)
    yield from _positions(data, run_id)
    yield from _checkpoints(data, run_id)
    yield from _attempts_without_rows(data, run_id)


def _database() -> Iterator[Finding]:
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA integrity_check(1)")
        (said,) = cursor.fetchone()
        if said != "ok":
            yield Finding(None, "database", f"SQLite reports damage: {said}", "Restore a backup.")


def _events(run_id: int) -> Iterator[Finding]:
    # Events of points up to `replay_from` may be in chunks; every later number has its event. One statement, so that no
    # event arrives in between.
    behind = Q(events__seq__gt=F("replay_from"))
    counted = Run.objects.filter(pk=run_id).annotate(count=Count("events", filter=behind))
    for last, replay_from, count in counted.values_list("last_seq", "replay_from", "count"):
        if count != last - replay_from:
            seqs = list(
                StoredEvent.objects.filter(run_id=run_id, seq__gt=replay_from)
                .order_by("seq")
                .values_list("seq", flat=True)
            )
            gaps = [(one + 1, two - 1) for one, two in pairwise([replay_from, *seqs, last + 1]) if two - one > 1]
            shown = ", ".join(f"{first}" if first == end else f"{first} to {end}" for first, end in gaps[:5])
            text = f"events {shown} are missing" if gaps else f"there are events after the last recorded one, {last}"
            yield Finding(run_id, "gap", text, "Pages cannot show them; restore a backup if you need them.")
    folded = StoredEvent.objects.filter(run_id=run_id, seq__lte=F("run__replay_from"), kind__in=POINT_KINDS)
    if (twice := folded.order_by("seq").values_list("seq", flat=True).first()) is not None:
        yield Finding(run_id, "chunk", f"the points of event {twice} are also in chunks", "Delete this event's row.")
    for seq, frame in StoredEvent.objects.filter(run_id=run_id).values_list("seq", "frame").iterator(chunk_size=64):
        try:
            decode_event(frame)
            told = msgspec.json.decode(frame)["seq"]
        except (msgspec.DecodeError, ValueError, KeyError, TypeError):
            told = None
        if told != seq:
            yield Finding(run_id, "event", f"event {seq} cannot be read", "Restore a backup.")
            return


def _chunks(run_id: int) -> Iterator[Finding]:
    last: Chunk | None = None
    chunks = Chunk.objects.filter(series__run_id=run_id).select_related("series", "places")
    for chunk in chunks.order_by("series", "attempt", "lap", "index").iterator(chunk_size=64):
        part = (chunk.series_id, chunk.attempt, chunk.lap)
        follows = last is not None and (last.series_id, last.attempt, last.lap) == part
        problem = _problem_of(chunk)
        if chunk.index != (last.index + 1 if follows and last else 0):
            problem = problem or "the preceding chunk is missing"
        elif follows and last and last.count != CHUNK_POINTS:
            problem = problem or "the chunk before it is not full, so both may hold the same points"
        elif follows and last and _are_same(last, chunk):
            problem = problem or "it holds the same points as the chunk before it"
        if problem:
            lap = f", lap {chunk.lap}" if chunk.lap else ""
            text = f"chunk {chunk.index} of {chunk.series.name}, attempt {chunk.attempt}{lap}: {problem}"
            yield Finding(run_id, "chunk", text, "Restore a backup, or do without these points.")
        last = chunk


def _are_same(one: Chunk, two: Chunk) -> bool:
    return one.places_id == two.places_id and bytes(one.points) == bytes(two.points)


def _problem_of(chunk: Chunk) -> str:
    try:
        points = points_of(chunk)
        unpack_buckets([Packed(bytes(chunk.places.buckets), bytes(chunk.buckets))], [chunk.count])
        if chunk.closes_group:
            unpack_groups([Packed(bytes(chunk.places.fine), bytes(chunk.fine))], FINE_POINTS)
            unpack_groups([Packed(bytes(chunk.places.coarse), bytes(chunk.coarse))], COARSE_POINTS)
    except (ValueError, IndexError, zlib.error, ArithmeticError, MemoryError) as error:
        return f"it cannot be unpacked ({type(error).__name__})"
    if (int(points.steps.min()), int(points.steps.max())) != (chunk.first_step, chunk.last_step):
        return "its points do not match the summary in its row"
    return ""


def _positions(data: Path, run_id: int) -> Iterator[Finding]:
    newest: dict[tuple[int, int], JournalOffset] = {}
    for row in JournalOffset.objects.filter(attempt__run_id=run_id).select_related("attempt").order_by("segment"):
        newest[row.attempt_id, row.rank] = row
    for row in newest.values():
        folder = attempt_folder(data, run_id, row.attempt.number)
        if not folder.is_dir() or not row.offset:
            continue
        path = segment_path(folder, row.rank, row.segment)
        size = path.stat().st_size if path.exists() else 0
        if row.offset > size:
            text = f"{path.relative_to(data)} was read up to byte {row.offset}, but has only {size} bytes"
            yield Finding(
                run_id,
                "position",
                text,
                "Everything before that byte is stored; a copy from a backup may contain the rest.",
            )


def _checkpoints(data: Path, run_id: int) -> Iterator[Finding]:
    run = Run.objects.filter(pk=run_id).first()
    if run is None:
        return
    folder = run_folder(data, run_id)
    in_tail = {path for attempt in run.attempts.filter(ended_at=None) for path in _checkpoints_in_tail(data, attempt)}
    # Files first: a checkpoint that is saved meanwhile has a row when the rows are read, or is in the journal.
    whole = [path.parent for path in folder.glob(f"attempts/*/checkpoints/*/{MANIFEST}")]
    listed = {folder / row.path: row for row in Checkpoint.objects.filter(run_id=run_id)}
    numbers = [*run.attempts.values_list("number", flat=True), ORIGIN_ATTEMPT]
    here = {number for number in numbers if attempt_folder(data, run_id, number).is_dir()}
    for path, row in listed.items():
        # Saving a later one removed those before it; their rows are removed when that record is read.
        if row.attempt not in here or (in_tail and not is_whole(path)):
            continue
        if not path.exists():
            remedy = (
                f"Copy it here from a backup; otherwise the next manage.py train --run-id {run_id} removes its row."
            )
            yield Finding(run_id, "missing", f"the checkpoint {row.name} (step {row.step}) has no files", remedy)
        elif why := _damage(path, row, is_script=not row.has_manifest):
            remedy = "No attempt resumes from it: copy it here from a backup, or delete it."
            yield Finding(run_id, "hash", f"the checkpoint {row.name} (step {row.step}): {why}", remedy)
    for path in whole:
        if path not in listed and path not in in_tail and path.parent.parent.is_dir():
            remedy = "The training was killed before it recorded the checkpoint, or the row was deleted: remove "
            "the folder."
            yield Finding(run_id, "orphan", f"{path.relative_to(data)} is a checkpoint without a row", remedy)


def _damage(path: Path, row: Checkpoint, *, is_script: bool) -> str:
    try:
        if path.is_dir() and not (is_script and not is_whole(path)):
            verify_checkpoint(path, row.sha256)
        elif path.is_file() and not verify(path, row.sha256):
            return "its SHA-256 differs from the recorded one"
    except Damaged as error:
        # A script has its own kind of manifest, so only its hash can be compared with the recorded one.
        own = is_script and hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest() == row.sha256
        return "" if own and "manifest" in str(error) else str(error)
    return ""


def _checkpoints_in_tail(data: Path, attempt: Attempt) -> set[Path]:
    """Return the checkpoints in the unread part of an open attempt's journal."""
    folder = attempt_folder(data, attempt.run_id, attempt.number)
    row = JournalOffset.objects.filter(attempt=attempt, rank=0).order_by("-segment").first()
    position = Position(row.segment, row.offset, row.next_number) if row else Position()
    tail, found = JournalTail(folder, 0, position), set()
    while (read := tail.read(ended=True, position=position)).position != position:
        found |= {folder / record.path for record in read.records if isinstance(record, CheckpointRecord)}
        position = read.position
    return found


def _attempts_without_rows(data: Path, run_id: int) -> Iterator[Finding]:
    there = {path for path in (run_folder(data, run_id) / "attempts").glob("*") if path.is_dir()}
    known = {str(number) for number in Attempt.objects.filter(run_id=run_id).values_list("number", flat=True)}
    if Branch.objects.filter(run=run_id).exists():
        known.add(str(ORIGIN_ATTEMPT))
    for path in sorted(there):
        if path.name not in known:
            remedy = "No row refers to it: move it elsewhere, and delete it when you are sure that nobody needs it."
            yield Finding(run_id, "orphan", f"{path.relative_to(data)} belongs to no attempt", remedy)


def _folders_without_runs(data: Path) -> Iterator[Finding]:
    # For a moment, the copy of a branch belongs to no run. If its process was killed, a later branch removes it.
    there = sorted(path for path in (data / "runs").glob("*") if path.is_dir() and not path.name.startswith(STAGED))
    known = {str(pk) for pk in Run.objects.values_list("pk", flat=True)}
    for path in there:
        if path.name not in known:
            remedy = "No row refers to it: move it elsewhere, and delete it when you are sure that nobody needs it."
            yield Finding(None, "orphan", f"{path.relative_to(data)} belongs to no run", remedy)
