"""The rows through which web processes share their numbers of sockets, and the viewers of each run."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec
from django.db import DatabaseError
from django.db.models.functions import Now

from runs.models import SocketCounts
from runs.protocol.reports import RunWatchers

logger = logging.getLogger(__name__)

PROCESS = uuid.uuid4()
_beats = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Holding:
    """The sockets of a process: number of places by key, and watchers of runs by the run's number."""

    counts: Mapping[str, int] = field(default_factory=dict)
    watchers: Mapping[int, RunWatchers] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """The row of a process. `beat` grows with each write; the last write was `age_s` seconds ago by the database's
    clock.
    """

    process: uuid.UUID
    beat: int
    age_s: float
    holding: Holding


def write(own: Holding) -> None:
    """Publish the sockets of this process to the others; without sockets it has no row."""
    if not own.counts:
        SocketCounts.objects.filter(pk=PROCESS).delete()
        return
    row = SocketCounts(
        process=PROCESS,
        counts=dict(own.counts),
        watchers=msgspec.to_builtins(own.watchers, str_keys=True),
        beat=next(_beats),
        written_at=Now(),
    )
    fields = ["counts", "watchers", "beat", "written_at"]
    SocketCounts.objects.bulk_create([row], update_conflicts=True, unique_fields=["process"], update_fields=fields)


def read_others() -> list[ProcessRow]:
    """Return the row of every other process."""
    rows = SocketCounts.objects.exclude(pk=PROCESS).annotate(now=Now())
    return [
        ProcessRow(process, beat, (now - written_at).total_seconds(), Holding(counts, _watchers(watchers)))
        for process, beat, written_at, now, counts, watchers in rows.values_list(
            "process", "beat", "written_at", "now", "counts", "watchers"
        )
    ]


def forget(dead: Collection[tuple[uuid.UUID, int]]) -> None:
    """Remove the rows of processes that died, unless they were written meanwhile."""
    for process, beat in dead:
        SocketCounts.objects.filter(pk=process, beat=beat).delete()


def leave() -> None:
    """Remove this process's row when it ends.

    If the database is unavailable, the others notice its end after a while.
    """
    try:
        write(Holding())
    except DatabaseError as error:
        logger.debug("the counts of sockets could not be removed: %s", error)


def _watchers(stored: object) -> dict[int, RunWatchers]:
    return msgspec.convert(stored, dict[int, RunWatchers], strict=False)
