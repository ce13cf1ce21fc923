"""Which chunks of long series no group tells of: a group is the 64 chunks whose summaries the last of them holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from runs.models import Chunk
from runs.series.chunks import CHUNK_POINTS, GROUP_CHUNKS

Key = tuple[int, int, int]  # series, attempt, lap
# Stretches of chunks that are named one by one in a query.
MOST_GAPS = 100


def loose_chunks(
    chunks: QuerySet[Chunk], spans: Mapping[Key, tuple[int, int]], closed: Mapping[Key, Sequence[int]]
) -> QuerySet[Chunk]:
    """Return those of `chunks` that are in no whole group: mostly the last few of each lap."""
    gaps: list[tuple[Key, int, int]] = []
    for key, (low, high) in spans.items():
        edges = [low - low % GROUP_CHUNKS - GROUP_CHUNKS, *closed.get(key, ()), high + 1]
        gaps += [(key, one + GROUP_CHUNKS, two) for one, two in pairwise(edges) if one + GROUP_CHUNKS < two]
    if len(gaps) <= MOST_GAPS:
        wanted = Q(pk__in=[])
        for (series_id, attempt, lap), first, end in gaps:
            wanted |= Q(series_id=series_id, attempt=attempt, lap=lap, index__gte=first, index__lt=end)
        return chunks.filter(wanted)
    closing = chunks.annotate(closing=F("index") - F("index") % GROUP_CHUNKS + GROUP_CHUNKS - 1)
    whole_groups = Chunk.objects.filter(
        series_id=OuterRef("series_id"),
        attempt=OuterRef("attempt"),
        lap=OuterRef("lap"),
        index=OuterRef("closing"),
        count=CHUNK_POINTS,
    )
    return closing.filter(~Exists(whole_groups))
