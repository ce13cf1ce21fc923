"""Points of a run as rows: divided into chunks, with steps and times stored once for all series that share them."""

from __future__ import annotations

from hashlib import blake2b

from django.db.models import Exists, OuterRef

from runs.models import Chunk, ChunkPlaces
from runs.series.packing.chunks import (
    BUCKET_POINTS,
    CHUNK_POINTS,
    COARSE_POINTS,
    FINE_POINTS,
    GROUP_CHUNKS,
    Buckets,
    Packed,
    Points,
    join_buckets,
    join_points,
    merged_by,
    pack_bucket_places,
    pack_bucket_values,
    pack_buckets,
    pack_places,
    pack_values,
    summarise,
    unpack_buckets,
    unpack_points,
)

Key = tuple[int, int, int]  # series, attempt, lap
# SQLite accepts 32,766 values per statement.
KEYS_A_QUERY = 10_000


def points_of(chunk: Chunk) -> Points:
    """Return the points of a chunk that was read with its places."""
    return unpack_points([Packed(bytes(chunk.places.points), bytes(chunk.points))], [chunk.count])


class ChunkWriter:
    """Creates chunks of the points of one run and saves them together. Call inside a transaction with the run's row
    locked.
    """

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._chunks: list[Chunk] = []
        self._replaced: set[int] = set()
        # Packed steps and times of points and of buckets, by their digests, because series share them.
        self._packed: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}

    def extend(self, key: Key, last: Chunk | None, added: Points) -> None:
        """Append `added` to the `last` chunk of a series in one lap, and to new chunks."""
        index = 0
        if last is not None and last.count < CHUNK_POINTS:
            index = last.index
            added = join_points([points_of(last), added])
            self._replaced.add(last.places_id)
        elif last is not None:
            index = last.index + 1
        made: dict[int, Buckets] = {}
        for start in range(0, len(added), CHUNK_POINTS):
            points = added.part(slice(start, start + CHUNK_POINTS))
            made[index] = summarise(points)
            closes_group = len(points) == CHUNK_POINTS and index % GROUP_CHUNKS == GROUP_CHUNKS - 1
            group = _summarise_group(key, index, made) if closes_group else None
            self._chunks.append(self._chunk(key, index, points, made[index], group))
            index += 1

    def remove(self, key: Key) -> None:
        """Remove all stored points of a series in one lap."""
        chunks = Chunk.objects.filter(series_id=key[0], attempt=key[1], lap=key[2])
        self._replaced |= set(chunks.order_by().values_list("places_id", flat=True))
        chunks.delete()

    def save(self) -> None:
        """Store the chunks, and delete steps and times that no chunk uses any more."""
        self._save_places()
        Chunk.objects.bulk_create(
            self._chunks,
            update_conflicts=True,
            unique_fields=["series", "attempt", "lap", "index"],
            update_fields=[
                "count", "first_step", "last_step", "first_time", "last_time", "places",
                "closes_group", "coarse", "fine", "buckets", "points",
            ],
        )  # fmt: skip
        used = Chunk.objects.filter(places=OuterRef("pk"))
        replaced = list(self._replaced)
        for start in range(0, len(replaced), KEYS_A_QUERY):
            keys = replaced[start : start + KEYS_A_QUERY]
            ChunkPlaces.objects.filter(~Exists(used), pk__in=keys).delete()

    def _chunk(self, key: Key, index: int, points: Points, buckets: Buckets, group: Buckets | None) -> Chunk:
        place_bytes = (points.steps.tobytes(), points.times_ms.tobytes())
        packed = self._packed.get(place_bytes)
        if packed is None:
            packed = self._packed[place_bytes] = pack_places(points), pack_bucket_places(buckets)
        fine = coarse = Packed(b"", b"")
        if group is not None:
            fine, coarse = pack_buckets(group), pack_buckets(merged_by(group, COARSE_POINTS // FINE_POINTS))
        series_id, attempt, lap = key
        return Chunk(
            series_id=series_id,
            attempt=attempt,
            lap=lap,
            index=index,
            count=len(points),
            first_step=int(points.steps.min()),
            last_step=int(points.steps.max()),
            first_time=int(points.times_ms.min()) / 1000,
            last_time=int(points.times_ms.max()) / 1000,
            places=self._places(*packed, fine.places, coarse.places),
            closes_group=group is not None,
            coarse=coarse.values,
            fine=fine.values,
            buckets=pack_bucket_values(buckets),
            points=pack_values(points),
        )

    def _places(self, points: bytes, buckets: bytes, fine: bytes, coarse: bytes) -> ChunkPlaces:
        digest = blake2b(digest_size=16)
        for part in (points, buckets, fine, coarse):
            digest.update(len(part).to_bytes(8, "little") + part)
        return ChunkPlaces(
            run_id=self._run_id, digest=digest.digest(), coarse=coarse, fine=fine, buckets=buckets, points=points
        )

    def _save_places(self) -> None:
        """Give each chunk the row of its steps and times, which may exist already."""
        wanted = {bytes(chunk.places.digest): chunk.places for chunk in self._chunks}
        stored = ChunkPlaces.objects.filter(run_id=self._run_id, digest__in=list(wanted))
        keys = {bytes(digest): pk for digest, pk in stored.values_list("digest", "pk")}
        ChunkPlaces.objects.bulk_create([places for digest, places in wanted.items() if digest not in keys])
        for chunk in self._chunks:
            digest = bytes(chunk.places.digest)
            chunk.places_id = keys.get(digest) or wanted[digest].pk


def _summarise_group(key: Key, index: int, made: dict[int, Buckets]) -> Buckets:
    """Return one row for every 512 points of the 64 chunks up to `index`; those in `made` are not stored yet."""
    series_id, attempt, lap = key
    first = index - GROUP_CHUNKS + 1
    stored = Chunk.objects.filter(series_id=series_id, attempt=attempt, lap=lap, index__gte=first, index__lt=index)
    rows = {
        place: unpack_buckets([Packed(bytes(places), bytes(packed))], [count])
        for place, count, places, packed in stored.values_list("index", "count", "places__buckets", "buckets")
        if place not in made
    }
    rows |= {place: buckets for place, buckets in made.items() if place >= first}
    return merged_by(join_buckets([rows[place] for place in sorted(rows)]), FINE_POINTS // BUCKET_POINTS)
