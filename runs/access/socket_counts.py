"""The rows with which web processes share the numbers of their sockets."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime

from django.db import DatabaseError
from django.utils import timezone

from runs.models import SocketCounts

logger = logging.getLogger(__name__)

PROCESS = uuid.uuid4()


def write(counts: Mapping[str, int]) -> None:
    """Tell the others what this process holds; without sockets it has no row."""
    if not counts:
        SocketCounts.objects.filter(pk=PROCESS).delete()
        return
    row = SocketCounts(process=PROCESS, counts=dict(counts), written_at=timezone.now())
    SocketCounts.objects.bulk_create(
        [row], update_conflicts=True, unique_fields=["process"], update_fields=["counts", "written_at"]
    )


def read_others() -> list[tuple[uuid.UUID, datetime, dict[str, int]]]:
    """Return process, time of writing and counts of every other process."""
    return list(SocketCounts.objects.exclude(pk=PROCESS).values_list("process", "written_at", "counts"))


def forget(dead: Collection[tuple[uuid.UUID, datetime]]) -> None:
    """Remove the rows of processes that died, unless they were written meanwhile."""
    for process, written_at in dead:
        SocketCounts.objects.filter(pk=process, written_at=written_at).delete()


def leave() -> None:
    """Remove this process's row at its end. Where the database is away, the others notice after a while."""
    try:
        write({})
    except DatabaseError as error:
        logger.debug("the counts of sockets were left behind: %s", error)
