"""The first frames for viewers of a run: one snapshot for all who connect together, and the events after it.

A `Greeter` belongs to a room of the hub. It holds the encoded snapshot of the run as of an event, and in its `Ring` the
frames of the events after that, so that a new viewer costs no query. Only the differences between viewers are encoded
per viewer. If a snapshot is old, or lacks events that the viewer has, the next request reads it again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from runs.access.guest_view import replace_names
from runs.access.roles import Viewer
from runs.live.database_reads import look_at_outcome, reading
from runs.live.frames import Frame, begin_without_names
from runs.live.hello import Held, bounded_hello, find
from runs.models import Run
from runs.protocol.event_parts import LARGEST_FRAME_BYTES
from runs.protocol.messages import Hello, Watchers
from runs.recording.feed import replay, time_of
from runs.recording.lifecycle import HEARTBEAT_INTERVAL_S

# Changes without an event, such as the name of a run, are sent after this time at the latest.
LONGEST_SNAPSHOT_AGE_S = 0.5
# Replaying more missing events than this is slower than a fresh history.
LARGEST_RING_EVENTS = 2_000
LARGEST_RING_BYTES = 4 << 20


# How many events keep their time in memory. The time of another event costs a query when a viewer reconnects.
MOST_KNOWN_TIMES = 256


class _Timed(msgspec.Struct):
    at: str


class Ring:
    """The frames of a run's newest events without a gap: those after `floor`, up to `last`. Bounded."""

    def __init__(self, last_seq: int) -> None:
        self.floor = self.last = last_seq
        self._frames: deque[Frame] = deque()
        self._bytes = 0

    def append(self, frame: Frame) -> None:
        """Add the frame of the next event, and drop the oldest ones beyond the bounds."""
        if frame.seq != self.last + 1:
            self.skip(frame.seq - 1)
        self._frames.append(frame)
        self._bytes += frame.size
        self.last = frame.seq
        while len(self._frames) > LARGEST_RING_EVENTS or self._bytes > LARGEST_RING_BYTES:
            self._bytes -= self._frames.popleft().size
            self.floor += 1

    def skip(self, seq: int) -> None:
        """Drop all events up to `seq`, because those before it are not available."""
        self._frames.clear()
        self._bytes = 0
        self.floor = self.last = seq

    def put_before(self, frames: Sequence[Frame]) -> bool:
        """Add the events that end at `floor`; if they exceed the bounds, add nothing and return False."""
        taken = sum(frame.size for frame in frames)
        if len(self._frames) + len(frames) > LARGEST_RING_EVENTS or self._bytes + taken > LARGEST_RING_BYTES:
            return False
        self._frames.extendleft(reversed(frames))
        self._bytes += taken
        self.floor -= len(frames)
        return True

    def time_of(self, seq: int) -> str | None:
        """Return the `at` of an event, None if the event is not in the ring."""
        if not self.floor < seq <= self.last:
            return None
        return str(msgspec.json.decode(self._frames[seq - self.floor - 1].text, type=_Timed).at)

    def after(self, seq: int) -> list[Frame] | None:
        """Return the events after `seq`, None if `seq` is before the floor."""
        return None if seq < self.floor else list(islice(self._frames, seq - self.floor, None))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run as of event `seq`: the part of `hello` that is the same for all, encoded for members and for guests.

    `began` is when reading began: it contains everything that was committed before.
    """

    seq: int
    replay_from: int
    began: float
    members: bytes
    guests: bytes | None

    def hello(self, viewer: Viewer, *, replays: bool, life: str, link: str, watchers: Watchers) -> str:
        """Return the text of `hello` for one viewer."""
        shared = self.guests if viewer.is_guest else self.members
        assert shared is not None
        own = {
            "replay": replays,
            "viewer": {"name": viewer.name, "role": viewer.role, "may": viewer.may},
            "server_time": time.time(),
            "life": life,
            "link": link,
            "watchers": msgspec.structs.asdict(watchers.shown_to(is_guest=viewer.is_guest)),
        }
        # Joins two JSON objects into one.
        return b"".join((shared[:-1], b",", msgspec.json.encode(own)[1:])).decode()


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first messages to a viewer: a snapshot, then `frames`, up to event `last_seq`.

    If `replays`, the frames are all events that the viewer missed. Otherwise they follow the snapshot. They are the
    objects of the ring, which all viewers share, so viewers that do not read cost no copies. `begin_seq` is the event
    before the first of them.
    """

    snapshot: Snapshot
    replays: bool
    frames: list[Frame]
    begin_seq: int
    last_seq: int


class Greeter:
    """Greets the viewers of one run. The hub adds each event to `ring` when it delivers it."""

    def __init__(self, run_id: int, last_seq: int) -> None:
        self.run_id = run_id
        self.ring = Ring(last_seq)
        self._snapshot: Snapshot | None = None
        self._reading: asyncio.Task[None] | None = None
        self._reading_back = asyncio.Lock()
        self._has_guests = False
        # The `at` of events that reconnecting viewers named and that are not in the ring.
        self._times: dict[int, str] = {}

    async def greet(self, held: Held | None, *, is_guest: bool) -> Greeting:
        """Return the greeting of a viewer whose outbox is already open, and who has the events up to `held`.

        Raises `Run.DoesNotExist`.
        """
        since = held.seq if held is not None and await self._is_of_this_past(held) else None
        self._has_guests = self._has_guests or is_guest
        arrived = time.monotonic()
        snapshot = await self._snapshot_for(since, is_guest, arrived)
        if since is not None and snapshot.replay_from <= since < self.ring.floor:
            await self._read_back(since)
            snapshot = await self._snapshot_for(since, is_guest, arrived)
        # There is no await between here and the choice of frames, so they continue from this snapshot.
        ring = self.ring
        replays = since is not None and ring.floor <= since <= snapshot.seq
        start = since if replays and since is not None else snapshot.seq
        # A snapshot that was read after the outbox was opened may be ahead of the ring; the outbox has the rest.
        found = ring.after(start) or []
        if is_guest:
            begin_without_names(found)
        return Greeting(snapshot, replays, found, start, start + len(found))

    async def _is_of_this_past(self, held: Held) -> bool:
        """Return whether the run has the last event of a viewer; true if the viewer names none.

        A database that was restored to an older state, or replaced, may have another event with that number.
        """
        if not held.at or held.seq == 0:
            return True
        at = self.ring.time_of(held.seq) or self._times.get(held.seq)
        if at is None:
            at = await reading(time_of)(self.run_id, held.seq)
            if at is not None:
                if len(self._times) >= MOST_KNOWN_TIMES:
                    self._times.clear()
                self._times[held.seq] = at
        return at == held.at

    async def _snapshot_for(self, since: int | None, is_guest: bool, arrived: float) -> Snapshot:
        while True:
            found = self._snapshot
            # A snapshot that was read after the viewer connected contains every event that the viewer may have.
            suits = found is not None and (found.began >= arrived or self._is_fresh(found, since))
            if found is not None and suits and (found.guests is not None or not is_guest):
                return found
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
                self._reading.add_done_callback(look_at_outcome)
            # Shielded: if one viewer leaves during the read, the others still get the result.
            await asyncio.shield(self._reading)

    def _is_fresh(self, snapshot: Snapshot, since: int | None) -> bool:
        """Return whether a snapshot is recent, continues into the ring, and is not behind the viewer's last event."""
        young = time.monotonic() - snapshot.began <= LONGEST_SNAPSHOT_AGE_S
        return young and snapshot.seq >= self.ring.floor and snapshot.seq >= (since or 0)

    async def _read(self) -> None:
        try:
            self._snapshot = await reading(read_snapshot)(self.run_id, self._has_guests)
        finally:
            self._reading = None

    async def _read_back(self, since: int) -> None:
        """Extend the ring back to `since`, if the database has the events and they are not too many."""
        async with self._reading_back:
            floor = self.ring.floor
            if since >= floor or self.ring.last - since > LARGEST_RING_EVENTS:
                return
            found = await reading(replay)(self.run_id, since, floor - since, LARGEST_RING_BYTES)
            frames = [Frame(seq, text) for seq, text in found if seq <= floor]
            # An earlier version may have stored events that are too large to send.
            sendable = all(frame.size <= LARGEST_FRAME_BYTES for frame in frames)
            if self.ring.floor == floor and len(frames) == floor - since and sendable:
                self.ring.put_before(frames)


def read_snapshot(run_id: int, for_guests: bool) -> Snapshot:
    """Read and encode the snapshot for all viewers of a run. Raises `Run.DoesNotExist`."""
    began = time.monotonic()
    parts = find(run_id)
    run = parts.run

    def encoded() -> bytes:
        return _shared_part(run, parts.snapshot, parts.latest)

    members, guests = encoded(), None
    if for_guests:
        replace_names(parts.snapshot["commands"])
        guests = encoded()
    return Snapshot(run.last_seq, run.replay_from, began, members, guests)


def _shared_part(run: Run, snapshot: dict[str, object], latest: dict[str, dict[str, object]]) -> bytes:
    """Return the fields of `hello` that are the same for all, as a JSON object.

    The largest result leaves room for a viewer's own fields in a frame.
    """
    whole = Hello(
        seq=run.last_seq,
        replay=False,
        run=snapshot,
        latest=latest,
        viewer={},
        server_time=0.0,
        heartbeat_interval_s=HEARTBEAT_INTERVAL_S,
        life="",
        link="",
        watchers={},
    )
    fields = msgspec.structs.asdict(bounded_hello(whole))
    own = ("replay", "viewer", "server_time", "life", "link", "watchers")
    return msgspec.json.encode({"kind": Hello.kind} | {name: fields[name] for name in fields if name not in own})
