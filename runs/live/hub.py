"""The hub, one per process: receives each event of a watched run once and sends the same bytes to all its viewers.

It joins a run's group when the first viewer connects, and leaves it with the last. The channel layer may lose,
duplicate or delay messages: events are ordered by `seq`, and gaps are read from the database. The database is polled
every second in any case, so a failed layer only costs latency. Layer and database have separate tasks: neither waits
for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from typing import Any

from channels.layers import channel_layers

from runs.access import revocation
from runs.live.database_reads import look_at_outcome, reading, writing
from runs.live.exchange import Exchange
from runs.live.handshake import Entrance
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
from runs.protocol.messages import Life, Link
from runs.protocol.reports import PortalLevels
from runs.recording import feed
from runs.recording.lifecycle import LIVE
from runs.recording.liveness import life_after
from steersman.files.private import FileIdentity

logger = logging.getLogger(__name__)

# While the layer is unavailable, reconnecting is tried more often.
LAYER_RETRY_S = 0.25
# A layer whose echo is older than this counts as unavailable; pages then show that events come from the database.
ECHO_TIMEOUT_S = 2.5
LAYER_CALL_TIMEOUT_S = 2.0
# If the database takes longer than this for a poll, it counts as unavailable.
LOOK_TIMEOUT_S = 1.5
FIRST_ECHO_TIMEOUT_S = 0.5
# A quarter of the limit of an outbox: viewers receive one part while the next is read.
LARGEST_READ_EVENTS = 2_000
LARGEST_READ_BYTES = 1 << 20


class Hub:
    """All rooms of one event loop. `has_layer` is true while the channel layer returns its echoes."""

    def __init__(self) -> None:
        self.has_layer = False
        self.has_database = True
        self.guard = RightsWatch()
        self.exchange = Exchange(self._tell_watchers)
        self.handshakes = Handshakes()
        self.entrance = Entrance(self.guard, self.handshakes.are_refused)
        self.reporter = Reporter(lambda: levels_of(self), writing(tally.write))
        self._rooms: dict[int, Room] = {}
        self._joining = asyncio.Lock()
        self._looking: list[asyncio.Task[None]] = []
        self._hearing: asyncio.Task[None] | None = None
        self._layer: Any = None
        self._channel = ""
        self._echo_group = f"hub.{uuid.uuid4().hex}"
        self._echo_at = 0.0
        self._misses_layer = False
        self._echoed = asyncio.Event()
        self._linked_at = 0.0
        self._database_file: FileIdentity | None = None
        self._looked_at = 0.0

    @property
    def watched(self) -> list[Room]:
        return list(self._rooms.values())

    async def join(self, run_id: int) -> tuple[Room, Outbox]:
        """Return the room of a run and a new outbox that gets every event after the room's `last_seq`.

        Raises `Run.DoesNotExist`.
        """
        outbox = Outbox()
        async with self._joining:
            room = self._rooms.get(run_id)
            if room is None:
                try:
                    # Subscribe before reading, so that an event that is committed in between is received or read, but
                    # never missed.
                    if not self._looking:
                        await self._connect()
                    await self._subscribe(run_id)
                    room = self._rooms[run_id] = await Room.open(run_id)
                    room.link = self._link_of(room)
                    # Not before: the answer is the number of an event, and this room must receive it.
                    feed.announce_viewer(run_id)
                except BaseException:
                    # No viewer would leave later and undo what was started for the first one.
                    if not self._rooms:
                        await self._disconnect()
                    raise
            room.outboxes.add(outbox)
            if not self._looking:
                self._looked_at = time.monotonic()
                self._looking = [
                    asyncio.create_task(self._look_forever()),
                    asyncio.create_task(self._stay_linked_forever()),
                ]
        return room, outbox

    async def leave(self, room: Room, outbox: Outbox) -> None:
        """Remove an outbox; leave the run's group when it was the last."""
        room.outboxes.discard(outbox)
        async with self._joining:
            if room.outboxes or self._rooms.get(room.run_id) is not room:
                return
            del self._rooms[room.run_id]
            if self._layer is not None:
                await self._layer_call("group_discard", f"run.{room.run_id}", self._channel)
            if not self._rooms:
                while self._looking:
                    self._looking.pop().cancel()
                await self._disconnect()

    async def _connect(self) -> None:
        """Create a separate instance of the channel layer, so that replacing a dead one affects nothing else."""
        found = await self._open_layer()
        if found is not None:
            await self._use(*found)

    async def _open_layer(self) -> tuple[Any, str] | None:
        """Return a new layer and our channel in it, None if the layer is unavailable."""
        layer = channel_layers.make_backend("default")
        try:
            async with asyncio.timeout(LAYER_CALL_TIMEOUT_S):
                channel = await layer.new_channel("hub.")
                await layer.group_add(self._echo_group, channel)
                await layer.group_add(revocation.GROUP, channel)
        except Exception as error:  # any exception: events come from the database meanwhile
            self._note_layer(False, str(error) or f"no answer within {LAYER_CALL_TIMEOUT_S:g} s")
            await _flush(layer)
            return None
        return layer, channel

    async def _use(self, layer: Any, channel: str) -> None:
        self._layer, self._channel = layer, channel
        self._linked_at = time.monotonic()
        self._hearing = asyncio.create_task(self._hear_forever(layer, channel))
        for run_id in self._rooms:
            await self._subscribe(run_id)
        self._echoed.clear()
        if await self._send_echo():
            # The first viewer gets the state of the layer; an echo takes about a millisecond.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._echoed.wait(), FIRST_ECHO_TIMEOUT_S)

    async def _subscribe(self, run_id: int) -> None:
        if self._layer is not None:
            await self._layer_call("group_add", f"run.{run_id}", self._channel)

    async def _layer_call(self, name: str, *arguments: Any) -> bool:
        try:
            async with asyncio.timeout(LAYER_CALL_TIMEOUT_S):
                await getattr(self._layer, name)(*arguments)
        except Exception as error:  # the next due echo reconnects
            self._note_layer(False, str(error))
            self._echo_at = 0.0
            return False
        return True

    async def _hear_forever(self, layer: Any, channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            if message.get("type") == "hub.echo":
                self._echo_at = time.monotonic()
                self._echoed.set()
                self._note_layer(True)
                continue
            if message.get("type") == revocation.MESSAGE:
                self.guard.wake()
                continue
            room = self._rooms.get(message.get("run"))
            if room is not None and message.get("type") == feed.HEARTBEAT_MESSAGE:
                # From a supervisor that cannot write to the database now.
                if message["attempt"] == room.attempt:
                    room.heartbeat_received_at = time.monotonic()
            elif room is not None:
                try:
                    await self._heard(room, message)
                except Exception as error:  # the next poll reads what this message announced
                    if noted_outage(error) is None:
                        logger.exception("run %s: an announcement could not be passed on", room.run_id)

    async def _heard(self, room: Room, message: dict[str, Any]) -> None:
        async with room.lock:
            seq = message["seq"]
            room.note_announced(seq)
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
        for run_id, last_seq, heartbeat, state, attempt in rows:
            room = self._rooms.get(run_id)
            if room is None:
                continue
            room.attempt = attempt
            self._judge_life(room, heartbeat, state in LIVE, now, seen_s)
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

    async def _stay_linked_forever(self) -> None:
        while True:
            await asyncio.sleep(POLL_INTERVAL_S if self.has_layer else LAYER_RETRY_S)
            try:
                await self._stay_linked()
            except Exception:  # events come from the database meanwhile
                logger.exception(
                    "the channel layer could not be checked: check that Redis runs. Until it is available, viewers get "
                    "all events from the database"
                )

    async def _stay_linked(self) -> None:
        """Request the next echo; create a new layer if there is none, or if echoes are missing."""
        if self._layer is None or time.monotonic() - max(self._echo_at, self._linked_at) > ECHO_TIMEOUT_S:
            self._note_layer(False, "no echo from the channel layer")
            await self._disconnect()
            # Outside of the lock, so that connecting viewers do not wait for an unavailable layer.
            found = await self._open_layer()
            if found is not None:
                async with self._joining:
                    await self._use(*found)
        elif self._layer is not None:
            await self._send_echo()

    async def _disconnect(self) -> None:
        hearing, layer = self._hearing, self._layer
        self._hearing = self._layer = None
        if hearing is not None:
            hearing.cancel()
            await asyncio.wait([hearing], timeout=LAYER_CALL_TIMEOUT_S)
        if layer is not None:
            await _flush(layer)

    def _judge_life(self, room: Room, heartbeat: int, live: bool, now: float, seen_s: float) -> None:
        if heartbeat != room.heartbeat or not live:
            room.alive_at = now
        elif seen_s > 2 * POLL_INTERVAL_S:
            # If the database could not be read, a missing heartbeat says nothing about the training.
            room.alive_at += seen_s - POLL_INTERVAL_S
        room.heartbeat, room.live = heartbeat, live
        # Either heartbeat is enough: the one in the database, or the one on the channel layer if the database is
        # unavailable.
        life = life_after(now - max(room.alive_at, room.heartbeat_received_at))
        if life != room.life:
            room.life = life
            room.tell(Life(life=life, silent_s=round(now - room.alive_at, 1)))

    def _tell_watchers(self) -> None:
        for room in self._rooms.values():
            room.tell_watchers(self.exchange.audience.of(room.run_id))

    async def _send_echo(self) -> bool:
        return await self._layer_call("group_send", self._echo_group, {"type": "hub.echo"})

    def _note_layer(self, has_layer: bool, why: str = "") -> None:
        self.has_layer = has_layer
        if not has_layer and not self._misses_layer:
            logger.warning(
                "the channel layer is unavailable (%s): check that Redis runs. Until it is available, viewers get "
                "all events from the database",
                why,
            )
        elif has_layer and self._misses_layer:
            logger.warning("the channel layer is available again")
        self._misses_layer = not has_layer
        self._judge_links()

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
            if link in ("database", "unavailable"):
                room.expect_no_announcements()

    def _link_of(self, room: Room) -> str:
        if not self.has_database:
            return "unavailable"
        if not self.has_layer:
            return "database"
        return "late" if room.is_late() else "live"


def levels_of(hub: Hub) -> PortalLevels:
    """Return the current levels of a hub, for the report of its process."""
    waiting = [outbox.waiting for room in hub.watched for outbox in room.outboxes]
    frames, size = sum(each for each, _ in waiting), sum(each for _, each in waiting)
    degraded = int(bool(hub.watched) and not hub.has_layer)
    return PortalLevels(len(waiting), hub.exchange.places.own[ALL], len(hub.watched), frames, size, degraded)


def _read_runs(run_ids: list[int]) -> tuple[list[tuple[int, int, int, str, int]], FileIdentity | None]:
    """Return number, last event, heartbeat, state and attempt of runs, and the identity of the database file."""
    rows = Run.objects.filter(pk__in=run_ids).values_list("pk", "last_seq", "heartbeat", "state", "attempt")
    return list(rows), database_file()


async def _flush(layer: Any) -> None:
    try:
        async with asyncio.timeout(LAYER_CALL_TIMEOUT_S):
            await layer.flush()
    except Exception as error:  # the connection is dropped in any case
        logger.debug("a channel layer was not closed cleanly: %s", error)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def current_hub() -> Hub:
    """Return the hub of the running event loop."""
    loop = asyncio.get_running_loop()
    for known in [known for known in _hubs if known.is_closed()]:
        del _hubs[known]
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]
