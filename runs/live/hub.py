"""The hub, one per process: receives each event of a watched run once and sends the same bytes to all its viewers.

It joins a run's group when the first viewer connects, and leaves it with the last. The channel layer may lose,
duplicate or delay messages: events are ordered by `seq`, and gaps are read from the database. The database is polled
every second in any case, so a failed layer only costs latency. Layer and database have separate tasks: neither waits
for the other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, TypeAlias

from runs.access import revocation
from runs.live.database_reads import look_at_outcome, reading, writing
from runs.live.exchange import Exchange
from runs.live.handshake import Entrance
from runs.live.layer.inbox import Inbox
from runs.live.layer.link import LayerLink
from runs.live.outbox import Outbox
from runs.live.presence.places import ALL
from runs.live.rights_watch import RightsWatch
from runs.live.room import POLL_INTERVAL_S, Room
from runs.live.socket_limits import Handshakes
from runs.metrics.portal_tally import Reporter, tally
from runs.models import Run
from runs.outage.answers import noted_outage
from runs.outage.database_file import database_file
from runs.outage.database_watch import database_watch
from runs.outage.last_known import last_known
from runs.protocol.messages import Link
from runs.protocol.reports import PortalLevels
from runs.recording import feed
from runs.recording.lifecycle import LIVE
from runs.recording.liveness import write_watch
from steersman.files.private import FileIdentity

logger = logging.getLogger(__name__)

# If the database takes longer than this for a poll, it counts as unavailable.
LOOK_TIMEOUT_S = 1.5
# A quarter of the limit of an outbox: viewers receive one part while the next is read.
LARGEST_READ_EVENTS = 2_000
LARGEST_READ_BYTES = 1 << 20
# Number, last event, heartbeat, state and attempt of a run.
Row: TypeAlias = tuple[int, int, int, str, int]


class Hub:
    """All rooms of one event loop. `has_layer` is true while the channel layer returns its echoes."""

    def __init__(self) -> None:
        self.has_database = True
        # Whether heartbeats can be stored; looked at only if one is missing.
        self.takes_writes = True
        self.guard = RightsWatch()
        self.exchange = Exchange(self._tell_watchers)
        self.handshakes = Handshakes()
        self.entrance = Entrance(self.guard, self.handshakes.are_refused)
        self.reporter = Reporter(lambda: levels_of(self), writing(tally.write))
        self._rooms: dict[int, Room] = {}
        self._joining = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self._inbox = Inbox(self._pass_on)
        self._link = LayerLink((revocation.GROUP,), self._take, self._judge_links)
        self._database_file: FileIdentity | None = None
        self._looked_at = 0.0

    @property
    def has_layer(self) -> bool:
        return self._link.has_layer

    @property
    def watched(self) -> list[Room]:
        return list(self._rooms.values())

    async def join(self, run_id: int) -> tuple[Room, Outbox]:
        """Return the room of a run and a new outbox that gets every event after the room's `last_seq`.

        Raises `Run.DoesNotExist`.
        """
        outbox = Outbox()
        try:
            if run_id not in self._rooms:
                # Subscribe before reading, so that an event that is committed in between is received or read, but
                # never missed. If the layer is unavailable, the next poll reads it.
                await self._link.join(f"run.{run_id}")
            async with self._joining:
                room = self._rooms.get(run_id)
                if room is None:
                    self._link.want(f"run.{run_id}")
                    room = self._rooms[run_id] = await Room.open(run_id)
                    # Again, because another viewer of the run may have been cancelled meanwhile.
                    self._link.want(f"run.{run_id}")
                    room.link = self._link_of(room)
                    # Not before: the answer is the number of an event, and this room must receive it.
                    feed.announce_viewer(run_id)
                room.outboxes.add(outbox)
        except BaseException:
            # No viewer would leave later and undo what was started for the first one.
            self._forget(run_id)
            raise
        if self._looking is None:
            self._looked_at = time.monotonic()
            self._looking = asyncio.create_task(self._look_forever())
        return room, outbox

    async def leave(self, room: Room, outbox: Outbox) -> None:
        """Remove an outbox; leave the run's group when it was the last."""
        room.outboxes.discard(outbox)
        # Shielded, because nobody removes the room later if the last viewer's handler is cancelled here.
        await asyncio.shield(self._close_if_empty(room))
        await self._link.closed()

    async def _close_if_empty(self, room: Room) -> None:
        async with self._joining:
            if not room.outboxes and self._rooms.get(room.run_id) is room:
                del self._rooms[room.run_id]
                self._forget(room.run_id)

    def _forget(self, run_id: int) -> None:
        """Leave the group of a run without a room, and stop everything with the last one."""
        if run_id not in self._rooms:
            self._link.leave(f"run.{run_id}")
        if not self._rooms:
            if self._looking is not None:
                self._looking.cancel()
                self._looking = None
            self._inbox.stop()
            self._link.stop()

    def _take(self, message: dict[str, Any]) -> None:
        """Handle a message of the channel layer, at once or, if it may need the database, in the inbox's task."""
        if message.get("type") == revocation.MESSAGE:
            self.guard.wake()
            last_known.clear()
            return
        room = self._rooms.get(message.get("run", 0))
        if room is None:
            return
        if message.get("type") == feed.HEARTBEAT_MESSAGE:
            # From a supervisor that cannot write to the database now.
            if message["attempt"] == room.attempt:
                room.heartbeat_received_at = time.monotonic()
            return
        self._inbox.put(message)

    async def _pass_on(self, message: dict[str, Any]) -> None:
        room = self._rooms.get(message["run"])
        if room is None:
            return
        try:
            await self._heard(room, message)
        except Exception as error:  # the next poll reads what this message announced
            if noted_outage(error) is None:
                logger.exception("run %s: an announcement could not be passed on", room.run_id)

    async def _heard(self, room: Room, message: dict[str, Any]) -> None:
        async with room.lock:
            seq = message["seq"]
            room.note_announced(seq)
            if seq > room.last_seq:
                # It was stored.
                self.takes_writes = True
            self._judge_link(room)
            if seq <= room.last_seq:
                return
            frame = message.get("event")
            if "announced" in message:
                room.announced.append(message["announced"])
            if frame is not None and seq == room.last_seq + 1:
                room.deliver(seq, frame)
                return
            await self._catch_up(room, seq)

    async def _catch_up(self, room: Room, up_to: int) -> None:
        """Deliver the events after the room's last one from the database, at least up to `up_to`, which was committed.

        Events that were compacted into charts meanwhile no longer exist; viewers are notified. The caller holds
        the room's lock.
        """
        while room.last_seq < up_to:
            missing = await reading(feed.replay)(room.run_id, room.last_seq, LARGEST_READ_EVENTS, LARGEST_READ_BYTES)
            for seq, frame in missing:
                if seq != room.last_seq + 1:
                    room.skip(seq - 1)
                room.deliver(seq, frame)
            if not missing:
                room.skip(up_to)

    async def read_now(self, room: Room) -> None:
        """Deliver what is stored of a run, without waiting for the next poll."""
        async with room.lock:
            read = reading(feed.replay)(room.run_id, room.last_seq, LARGEST_READ_EVENTS, LARGEST_READ_BYTES)
            for seq, frame in await read:
                if seq != room.last_seq + 1:
                    room.skip(seq - 1)
                room.deliver(seq, frame)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                await self._look()
            except Exception as error:  # an unavailable database may answer the next poll
                if noted_outage(error) is None:
                    logger.exception("the hub could not check the database")
                else:
                    self._note_database(False, error)

    async def _look(self) -> None:
        """Poll once: read the watched runs, check heartbeats, deliver missed events."""
        handed_on = {run_id: room.last_seq for run_id, room in self._rooms.items()}
        asking = asyncio.ensure_future(reading(_read_runs)(list(self._rooms)))
        asking.add_done_callback(look_at_outcome)
        while not (await asyncio.wait({asking}, timeout=LOOK_TIMEOUT_S))[0]:
            # Not queried twice, because each waiting query occupies a thread.
            self._note_database(False, f"no answer within {LOOK_TIMEOUT_S} s")
        rows, file = asking.result()
        self._note_database(True)
        was_replaced = self._database_file not in (None, file)
        self._database_file = file
        now = time.monotonic()
        seen_s = now - self._looked_at
        self._looked_at = now
        self.takes_writes = not self._is_one_overdue(rows, now) or await reading(write_watch.look)()
        for run_id, last_seq, heartbeat, state, attempt in rows:
            room = self._rooms.get(run_id)
            if room is None:
                continue
            room.attempt = attempt
            room.judge_life(heartbeat, state in LIVE, now, seen_s, self.takes_writes)
            room.stored_seq = last_seq
            if was_replaced or last_seq < handed_on.get(run_id, 0):
                # A database has what was committed before the query, unless it was restored to an older state.
                logger.warning(
                    "run %d: the database was restored to another state, so viewers load the run again", run_id
                )
                async with room.lock:
                    room.begin_anew(last_seq)
            elif last_seq > room.last_seq:
                if self.has_layer:
                    room.note_unannounced(last_seq)
                async with room.lock:
                    await self._catch_up(room, last_seq)
            self._judge_link(room)

    def _is_one_overdue(self, rows: list[Row], now: float) -> bool:
        return any(
            (room := self._rooms.get(run_id)) is not None and room.is_overdue(heartbeat, state in LIVE, now)
            for run_id, _, heartbeat, state, _ in rows
        )

    def _tell_watchers(self) -> None:
        for room in self._rooms.values():
            room.tell_watchers(self.exchange.audience.of(room.run_id))

    def _note_database(self, has_database: bool, error: object = "") -> None:
        self.has_database = has_database
        if not has_database:
            database_watch.note_unavailable(error)
        self._judge_links()

    def _judge_links(self) -> None:
        for room in self._rooms.values():
            self._judge_link(room)

    def _judge_link(self, room: Room) -> None:
        link = self._link_of(room)
        if link != room.link:
            room.link = link
            room.tell(Link(link=link))
            if link in ("database", "unavailable", "unwritable"):
                room.expect_no_announcements()

    def _link_of(self, room: Room) -> str:
        if not self.has_database:
            return "unavailable"
        if room.live and not self.takes_writes:
            return "unwritable"
        if not self.has_layer:
            return "database"
        return "late" if room.is_late() else "live"


def levels_of(hub: Hub) -> PortalLevels:
    """Return the current levels of a hub, for the report of its process."""
    waiting = [outbox.waiting for room in hub.watched for outbox in room.outboxes]
    frames, size = sum(each for each, _ in waiting), sum(each for _, each in waiting)
    degraded = int(bool(hub.watched) and not hub.has_layer)
    return PortalLevels(len(waiting), hub.exchange.places.own[ALL], len(hub.watched), frames, size, degraded)


def _read_runs(run_ids: list[int]) -> tuple[list[Row], FileIdentity | None]:
    """Return number, last event, heartbeat, state and attempt of runs, and the identity of the database file."""
    rows = Run.objects.filter(pk__in=run_ids).values_list("pk", "last_seq", "heartbeat", "state", "attempt")
    return list(rows), database_file()


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def current_hub() -> Hub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    for known in [known for known in _hubs if known.is_closed()]:
        del _hubs[known]
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
