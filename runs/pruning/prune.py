"""Prunes ended runs by the retention rules of their projects. If it is killed, the next pruning continues.

The rest of the record stays: epochs, events of other kinds, commands, alerts, and the last value of each series.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.db import transaction
from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Length

from runs.models import Axis, Chunk, ChunkPlaces, Run, Series
from runs.protocol.events import LogLine, LogWritten
from runs.protocol.states import ENDED
from runs.pruning.rules import unneeded
from runs.pruning.thinning import thinned
from runs.recording import feed
from runs.recording.checkpoints import forget_checkpoints, host_of
from runs.series import storage
from runs.series.chunk_rows import points_of
from runs.series.packing.chunks import Points, join_points, pack_values
from steersman.files.locks import try_lock
from steersman.run import worker_lock_path

CHUNKS_A_READ = 64
SIZE = Sum(Length("coarse") + Length("fine") + Length("buckets") + Length("points"))


class _Resumed(Exception):
    """The run is training again."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """The points and checkpoints that a pruning removes from a run, or would remove.

    Bytes are those of packed points, and of checkpoint files.
    """

    run: Run
    points_before: int = 0
    points_after: int = 0
    point_bytes: int = 0
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    elsewhere: int = 0

    @property
    def is_nothing(self) -> bool:
        return not (self.point_bytes or self.checkpoints or self.elsewhere)


def due(project_slug: str = "", run_id: int | None = None) -> QuerySet[Run]:
    """Return the ended runs of projects that have a rule, oldest first, limited to a project or a run."""
    runs = Run.objects.filter(state__in=ENDED).exclude(project__coarse_after_days=None, project__checkpoint_epochs=None)
    if project_slug:
        runs = runs.filter(project__slug=project_slug)
    if run_id is not None:
        runs = runs.filter(pk=run_id)
    return runs.select_related("project").order_by("pk")


def prune(run: Run, data: Path, now: datetime, *, dry: bool = False) -> Pruned:
    """Apply the rules of its project to a run, or only return what they would remove if `dry`."""
    if not _is_at_rest(run, data):
        return Pruned(run)
    before, after, freed = _coarsen(run, now, dry)
    number, size, elsewhere = _remove_checkpoints(run, data, dry)
    return Pruned(run, before, after, freed, number, size, elsewhere)


def _is_at_rest(run: Run, data: Path) -> bool:
    """Return whether no process on this machine trains the run, whatever its state."""
    folder = data / "runs" / str(run.pk) / "attempts" / str(run.attempt)
    if not folder.is_dir():
        return True
    lock = try_lock(worker_lock_path(folder, 0))
    if lock is not None:
        lock.release()
    return lock is not None


def _coarsen(run: Run, now: datetime, dry: bool) -> tuple[int, int, int]:
    """Thin the points of a run that ended long enough ago; return (points before, points after, freed bytes)."""
    days = run.project.coarse_after_days
    if days is None or run.ended_at is None or run.ended_at > now - timedelta(days=days):
        return 0, 0, 0
    if not dry:
        storage.fold(run.pk)
    try:
        totals = _coarsen_series(run, dry)
    except _Resumed:
        # The next pruning starts again at this place: thinned points stay as they are.
        return 0, 0, 0
    if totals[2] and not dry:
        _note(run)
    return totals


def _coarsen_series(run: Run, dry: bool) -> tuple[int, int, int]:
    before = left = freed = 0
    places = _places_size(run)
    pending = Series.objects.filter(run=run, coarse_attempt__lt=run.attempt).order_by("pk")
    for series in pending:
        attempts = series.chunks.filter(attempt__gt=series.coarse_attempt).order_by().values("attempt")
        parts = attempts.annotate(total=Sum("count"), size=SIZE)
        for part in sorted(parts, key=lambda part: int(part["attempt"])):
            points, size = _coarsen_attempt(run, series, part["attempt"], part["total"], part["size"], dry)
            before, left, freed = before + part["total"], left + points, freed + size
        if not dry:
            Series.objects.filter(pk=series.pk).update(coarse_attempt=run.attempt)
    # Series share steps and times, so a dry run estimates their freed bytes from the share of removed points.
    freed += places * (before - left) // max(1, before) if dry else places - _places_size(run)
    return before, left, max(0, freed)


def _places_size(run: Run) -> int:
    """Return the bytes of the steps and times of a run."""
    return ChunkPlaces.objects.filter(run=run).aggregate(size=SIZE)["size"] or 0


def _coarsen_attempt(run: Run, series: Series, attempt: int, count: int, size: int, dry: bool) -> tuple[int, int]:
    """Thin one series in one attempt; return (points after, freed bytes)."""
    laps = Chunk.objects.filter(series=series, attempt=attempt).order_by("lap").values_list("lap", flat=True).distinct()
    by_time = series.axis == Axis.TIME
    kept = {lap: join_points(list(thinned(_points(series, attempt, lap), by_time=by_time))) for lap in laps}
    number = sum(map(len, kept.values()))
    if number == count:
        return count, 0
    if dry:
        return number, max(0, size - sum(len(pack_values(points)) for points in kept.values()))
    # Read before the transaction, so that no writer waits. That no attempt has begun since is checked again.
    with transaction.atomic():
        held = Run.objects.select_for_update().get(pk=run.pk)
        if held.state not in ENDED or held.attempt != run.attempt:
            raise _Resumed
        storage.replace_points(run.pk, series.pk, attempt, kept)
        Run.objects.filter(pk=run.pk).update(coarse_until=held.ended_at, thinnings=F("thinnings") + 1)
        Series.objects.filter(pk=series.pk).update(coarse_attempt=attempt)
    chunks = Chunk.objects.filter(series=series, attempt=attempt)
    left = chunks.aggregate(size=SIZE)["size"] or 0
    return number, size - left


def _points(series: Series, attempt: int, lap: int) -> Iterator[Points]:
    """Yield the points of a series in one lap of an attempt, chunk by chunk."""
    stored = Chunk.objects.filter(series=series, attempt=attempt, lap=lap)
    for chunk in stored.order_by("index").select_related("places").iterator(chunk_size=CHUNKS_A_READ):
        yield points_of(chunk)


def _note(run: Run) -> None:
    text = "From now on, one point per 100 steps of this run is kept, and the lowest and highest value of these steps."
    line = LogLine(text=text, source="steersman", level="info")
    feed.append(run.pk, LogWritten(attempt=run.attempt, lines=[line]))


def _remove_checkpoints(run: Run, data: Path, dry: bool) -> tuple[int, int, int]:
    """Remove checkpoints that no rule keeps; return (their number, their bytes, those on other hosts).

    Files go first: if the process is killed in between, the row without files is removed by the next pruning.
    """
    every = run.project.checkpoint_epochs
    if every is None:
        return 0, 0, 0
    # For checkpoints in a script's own format, only the script can determine which files belong to them.
    checkpoints = [each for each in run.checkpoints.order_by("pk") if each.has_manifest]
    going = unneeded(checkpoints, every)
    # Of those on other hosts, only copies that were pushed can be removed here.
    own = [each for each in going if each.pushed_at is not None or host_of(each) == socket.gethostname()]
    if not dry:
        for each in own:
            if not Run.objects.filter(pk=run.pk, state__in=ENDED, attempt=run.attempt).exists():
                break
            folder = data / "runs" / str(run.pk) / each.path
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)
            forget_checkpoints(run.pk, run.attempt, [each])
    return len(own), sum(each.size_bytes for each in own), len(going) - len(own)
