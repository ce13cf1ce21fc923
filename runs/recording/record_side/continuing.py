"""Whether a report continues the stored ones: by session, number and positions, in the transaction that stores it.

A report that is sent again, late or out of order therefore changes nothing, even if the first answer was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import F

from runs.models import Attempt, Checkpoint, JournalOffset, Run
from runs.recording.lifecycle import Fenced, Lease
from runs.series.laps import places_of
from runs.statements import repeated
from steersman.messages.reports import Attached, Position, Stored


class NotContinued(Exception):
    """A report does not continue the stored ones; the caller rolls its transaction back and answers with `held`."""


class Superseded(Fenced):
    """Another supervisor has attached to the same attempt: this one no longer stores anything."""


def attach(lease: Lease, *, as_history: bool = False) -> Attached:
    """Begin a new session of an attempt, and return what is stored of it.

    Raises `runs.recording.lifecycle.Fenced` if another attempt holds the run, unless `as_history` is true.
    """
    with transaction.atomic():
        # Lock the row of the run first, as everywhere.
        run = Run.objects.select_for_update().get(pk=lease.run_id)
        if run.attempt != lease.number and not as_history:
            raise Fenced(f"run {lease.run_id} is no longer held by attempt {lease.number}")
        Attempt.objects.filter(pk=lease.attempt_id).update(session=F("session") + 1)
        attempt = Attempt.objects.get(pk=lease.attempt_id)
        positions = _positions(attempt)
        last_steps: dict[str, int] = {}
        if attempt.ranks > 1 and any(position != Position() for position in positions.values()):
            # Points of other attempts, or from before a rollback, do not make a new step late.
            places = places_of(attempt.run_id, attempt.number)
            last_steps = {name: step for name, (lap, step, _) in places.items() if lap >= attempt.first_lap}
        below = f"attempts/{lease.number}/"
        saved = Checkpoint.objects.filter(run_id=lease.run_id, attempt=lease.number, path__startswith=below)
        checkpoints = {row.path.removeprefix(below): row.has_manifest for row in saved}
    offsets = {rank: int(attempt.console_offsets.get(str(rank), 0)) for rank in range(attempt.ranks)}
    return Attached(
        session=attempt.session,
        next_report=attempt.reports + 1,
        positions=positions,
        console_offsets=offsets | {0: attempt.console_offset},
        last_steps=last_steps,
        environment=attempt.environment,
        checkpoints=checkpoints,
        is_paused=run.is_paused,
        is_stalled=run.stalled_since is not None,
        is_not_looking=run.not_looking_since is not None,
        usual_step_s=run.usual_step_s,
        last_step=attempt.last_step,
    )


def held(lease: Lease, session: int, number: int) -> Stored:
    """Return what is stored of an attempt, as the answer to report `number`.

    Raises `Superseded` if another session than `session` has begun.
    """
    attempt = Attempt.objects.get(pk=lease.attempt_id)
    if attempt.session != session:
        raise Superseded(f"another supervisor follows attempt {lease.number} of run {lease.run_id}")
    return Stored(attempt.reports, _positions(attempt), session=session, answers=number)


def count_report(lease: Lease, session: int, number: int, **fields: Any) -> None:
    """Count report `number` of a session, and write `fields` of the attempt. Call inside the report's transaction.

    Raises `NotContinued` if another report is the next one.
    """
    following = {"id": lease.attempt_id, "session": session, "reports": number - 1}
    if not repeated.update(Attempt, following, {"reports": number, **fields}):
        raise NotContinued


def move_positions(lease: Lease, begin: Mapping[int, Position], end: Mapping[int, Position]) -> None:
    """Store up to where the journal of each rank was read. Call inside the report's transaction.

    Ranks that `begin` omits begin at the start of their journal. Raises `NotContinued` if the stored position of a rank
    differs from `begin`.
    """
    for rank, position in end.items():
        _move(lease, rank, begin.get(rank, Position()), position)


def _move(lease: Lease, rank: int, begin: Position, end: Position) -> None:
    here = {"segment": begin.segment, "offset": begin.offset, "next_number": begin.next_number}
    if begin.segment == end.segment:
        moved = {"offset": end.offset, "next_number": end.next_number}
        if repeated.update(JournalOffset, {"attempt_id": lease.attempt_id, "rank": rank, **here}, moved):
            return
    # Rare: the first report of a rank, or the first of a segment.
    of_rank = JournalOffset.objects.filter(attempt_id=lease.attempt_id, rank=rank)
    continues = begin.segment != end.segment and of_rank.filter(**here).exists()
    if not continues and (begin != Position() or of_rank.exists()):
        raise NotContinued
    JournalOffset.objects.create(
        attempt_id=lease.attempt_id, rank=rank, segment=end.segment, offset=end.offset, next_number=end.next_number
    )


def _positions(attempt: Attempt) -> dict[int, Position]:
    """Return the read position in the journal of each of the attempt's ranks."""
    found = {rank: Position() for rank in range(attempt.ranks)}
    for row in JournalOffset.objects.filter(attempt=attempt).order_by("segment"):
        found[row.rank] = Position(row.segment, row.offset, row.next_number)
    return found
