"""A watched run: its viewers, and the delivery of events to them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from dataclasses import dataclass, field

from django.utils import timezone

from runs.live.database_reads import reading
from runs.live.frames import Frame, Views, joined
from runs.live.greeting import Greeter
from runs.live.outbox import Outbox
from runs.metrics.portal_tally import tally
from runs.models import Run
from runs.protocol.event_parts import LARGEST_EVENT_BYTES, LARGEST_FRAME_BYTES
from runs.protocol.messages import Life, Message, Resync, Watchers, encode_message
from runs.protocol.messages import Sight as SightTaken
from runs.protocol.sight import NewestPoints, Sight
from runs.recording.lifecycle import LIVE, UNREACHABLE_AFTER_S
from runs.recording.liveness import OVERDUE_S, life_after, received_heartbeats

logger = logging.getLogger(__name__)

# The interval at which the database is polled.
POLL_INTERVAL_S = 1.0
# If a room needs more sends per second than this, which take about 2 % of a core, it joins two events in one message,
# which halves the work. The first waits at most `GATHER_S` for the second.
BUSY_SENDS_PER_S = 2_000
GATHER_S = 0.1
# Announcements that arrive this long after their events were stored are late.
LATE_S = 1.0
LOST_S = 10.0
# Viewers who selected series get the newest points of the others this often.
NEWEST_EVERY_S = 1.0
# Each different selection of series needs its own frames. A further selection is replaced by a larger one that includes
# it.
MOST_SIGHTS = 64
# The rate is measured over the last few events.
RATE_EVENTS = 8


@dataclass(slots=True)
class Room:
    """A watched run: its viewers, the last event that was delivered to them, and its heartbeats.

    `stored_seq` is the newest event that was seen in the database.
    """

    run_id: int
    last_seq: int
    heartbeat: int
    alive_at: float
    live: bool
    life: str = "alive"
    link: str = "live"
    attempt: int = 0
    stored_seq: int = 0
    # The time of the owner's last heartbeat on the channel layer, by `time.monotonic`.
    heartbeat_received_at: float = -math.inf
    # The newest event that was read from the database before its announcement, and when.
    _unannounced_seq: int = 0
    _unannounced_since: float | None = None
    _late_until: float = -math.inf
    greeter: Greeter = field(init=False)
    outboxes: set[Outbox] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    gathered: Frame | None = None
    flushing: asyncio.TimerHandle | None = None
    # Newest points of series that a viewer has not selected, the time of their next message, whether there is such a
    # viewer.
    newest: NewestPoints = field(default_factory=NewestPoints)
    telling: asyncio.TimerHandle | None = None
    has_sights: bool = False
    announced: list[float] = field(default_factory=list)  # times of events in transit, by `time.time`
    delivered_at: deque[float] = field(default_factory=lambda: deque([-math.inf], RATE_EVENTS))  # by `time.monotonic`

    @classmethod
    async def open(cls, run_id: int) -> Room:
        """Read the run and return its room. Raises `Run.DoesNotExist`."""
        run: Run = await reading(Run.objects.get)(pk=run_id)
        live = run.state in LIVE
        # The clock of the run's host may be wrong: the stored time of its last heartbeat alone never makes a run
        # unreachable. A run that is really unreachable is shown so after the second poll.
        silent_s = (timezone.now() - run.heartbeat_at).total_seconds() if live and run.heartbeat_at else 0.0
        silent_s = max(0.0, min(silent_s, UNREACHABLE_AFTER_S - POLL_INTERVAL_S))
        alive_at = time.monotonic() - silent_s
        room = cls(run_id, run.last_seq, run.heartbeat, alive_at, live, life=life_after(silent_s), attempt=run.attempt)
        room.heartbeat_received_at = received_heartbeats.received_at(run_id, run.attempt)
        return room

    def __post_init__(self) -> None:
        self.greeter = Greeter(self.run_id, self.last_seq)

    @property
    def newest_seq(self) -> int:
        """Return the newest event that is known here, delivered or not."""
        return max(self.last_seq, self.stored_seq)

    def is_overdue(self, heartbeat: int, live: bool, now: float) -> bool:
        """Return whether the row of a poll still lacks the next heartbeat of the owner after a while."""
        return live and heartbeat == self.heartbeat and now - self.alive_at > OVERDUE_S

    def judge_life(self, heartbeat: int, live: bool, now: float, seen_s: float, takes_writes: bool = True) -> None:
        """Judge the row of a poll, `seen_s` after the poll before; notify viewers if the training is alive or silent
        now and was not before.

        If the database could not be read, or takes no heartbeats, a missing one says nothing about the training.
        """
        if heartbeat != self.heartbeat or not live:
            self.alive_at = now
        elif not takes_writes:
            self.alive_at += seen_s
            if self.life == "alive":
                # Its owner needs a moment to store a heartbeat once it can.
                self.alive_at = max(self.alive_at, now - OVERDUE_S)
        elif seen_s > 2 * POLL_INTERVAL_S:
            self.alive_at += seen_s - POLL_INTERVAL_S
        self.heartbeat, self.live = heartbeat, live
        # Either heartbeat is enough: the one in the database, or the one on the channel layer if the database is
        # unavailable.
        life = life_after(now - max(self.alive_at, self.heartbeat_received_at))
        if life != self.life:
            self.life = life
            self.tell(Life(life=life, silent_s=round(now - self.alive_at, 1)))

    def note_unannounced(self, seq: int) -> None:
        """Record that the database has an event up to `seq` that was not announced yet."""
        self._unannounced_seq = seq
        if self._unannounced_since is None:
            self._unannounced_since = time.monotonic()

    def note_announced(self, seq: int) -> None:
        """Record the announcement of an event. If the database had it long before, the room is late."""
        if self._unannounced_since is None:
            return
        now = time.monotonic()
        if now - self._unannounced_since > LATE_S:
            self._late_until = now + LATE_S
        if seq >= self._unannounced_seq:
            self._unannounced_since = None

    def expect_no_announcements(self) -> None:
        """Record that no announcement can arrive, so that missing ones do not count as a slow layer."""
        self._unannounced_since = None

    def is_late(self) -> bool:
        """Return whether announcements arrive more than `LATE_S` after the database has their events, or not at all."""
        now = time.monotonic()
        since = self._unannounced_since
        # A single lost announcement says nothing about later ones.
        waits = since is not None and LATE_S < now - since < LOST_S
        return waits or now < self._late_until

    def deliver(self, seq: int, text: str) -> None:
        """Deliver an event to all viewers, the same bytes to all of a kind. A busy room joins two events in one
        message.
        """
        frame = Frame(seq, text)
        if frame.size > LARGEST_FRAME_BYTES:
            # Stored by an earlier version, or by a training that still runs with it.
            self.skip(seq)
            return
        self.last_seq = seq
        tally.counts.events += 1
        self.greeter.ring.append(frame)
        if not self._is_busy():
            self.flush()
            self._send(frame)
            return
        if self.gathered is not None and self.gathered.size + frame.size > LARGEST_EVENT_BYTES:
            self.flush()
        if self.gathered is None:
            self.gathered = frame
            self.flushing = asyncio.get_running_loop().call_later(GATHER_S, self.flush)
        else:
            self.gathered = joined([self.gathered, frame])
            self.flush()

    def _is_busy(self) -> bool:
        """Return whether this event and the previous ones need more than `BUSY_SENDS_PER_S`."""
        now = time.monotonic()
        sends = len(self.outboxes) * len(self.delivered_at)
        busy = sends > BUSY_SENDS_PER_S * (now - self.delivered_at[0])
        self.delivered_at.append(now)
        return busy

    def flush(self) -> None:
        """Send the event that waits for the next one."""
        frame, self.gathered = self.gathered, None
        if self.flushing is not None:
            self.flushing.cancel()
            self.flushing = None
        if frame is not None:
            self._send(frame)

    def skip(self, seq: int) -> None:
        """Continue after `seq`, and notify viewers that events up to it are only in the history."""
        tally.counts.skipped_events += seq - self.last_seq
        self.last_seq = seq
        self.greeter.ring.skip(seq)
        self.flush()
        self.newest.clear()
        self._send(Frame(seq, encode_message(Resync(seq=seq))))

    def begin_anew(self, seq: int) -> None:
        """Continue after `seq` of a restored database with another history of the run, and let viewers reload it."""
        self.last_seq = self.stored_seq = seq
        self.greeter = Greeter(self.run_id, seq)
        self.expect_no_announcements()
        self.announced.clear()
        self.newest.clear()
        self.gathered = None
        self.flush()
        for outbox in self.outboxes:
            outbox.begin_anew(Frame(seq, encode_message(Resync(seq=seq))))

    def tell(self, message: Message) -> None:
        self.flush()
        self._send(Frame(0, encode_message(message)))

    def tell_watchers(self, watchers: Watchers) -> None:
        """Send the watchers to viewers whose last message differs. Guests get no names."""
        frames: dict[bool, Frame] = {}
        for outbox in self.outboxes:
            if outbox.watchers is None or outbox.watchers == watchers:
                continue
            is_guest = outbox.is_guest
            if is_guest not in frames:
                frames[is_guest] = Frame(0, encode_message(watchers.shown_to(is_guest=is_guest)))
            outbox.watchers = watchers
            try:
                outbox.put(frames[is_guest])
            except Exception:
                self._give_up(outbox, self.last_seq)

    def look(self, outbox: Outbox, sight: Sight | None) -> None:
        """From now on, send a viewer the points of the series in `sight`, and only the newest ones of the others, less
        often.

        The viewer receives the number of the event after which this begins.
        """
        if outbox.sight is not None:
            # Series that come into sight are not in later `newest` messages, so their newest points are sent now.
            for text in self.newest.messages(outbox.newest_seq, outbox.sight, sight):
                outbox.put(Frame(0, text))
        known = {other.sight: other.sight for other in self.outboxes if other is not outbox and other.sight is not None}
        if sight in known or sight is None or len(known) < MOST_SIGHTS:
            outbox.sight = known.get(sight, sight) if sight is not None else None
        else:
            outbox.sight = min((other for other in known if other >= sight), key=len, default=None)
        self.has_sights = outbox.sight is not None or bool(known)
        outbox.put(Frame(0, encode_message(SightTaken(seq=outbox.newest_seq))))

    def _tell_newest(self) -> None:
        """Send each viewer the newest points of its hidden series."""
        self.telling = None
        self.flush()
        made: dict[Sight, list[Frame]] = {}
        for outbox in self.outboxes:
            sight = outbox.sight
            if sight is None:
                continue
            if sight not in made:
                made[sight] = [Frame(0, text) for text in self.newest.messages(self.last_seq, sight)]
            try:
                for frame in made[sight]:
                    outbox.put(frame)
            except Exception:
                self._give_up(outbox, self.last_seq)
        self.has_sights = bool(made)
        self.newest.clear()

    def _send(self, frame: Frame) -> None:
        views = self._views(frame) if self.has_sights else None
        for outbox in self.outboxes:
            try:
                outbox.put(frame if views is None or outbox.sight is None else views.of(outbox.sight))
            except Exception:
                self._give_up(outbox, frame.seq)
        for announced in self.announced:
            tally.counts.note_latency(time.time() - announced)
        self.announced.clear()

    def _views(self, frame: Frame) -> Views:
        """Return the versions of a frame for viewers who selected series, and store its points for later."""
        views = Views(frame)
        for metrics in views.metrics:
            self.newest.note(metrics)
        if self.newest and self.telling is None:
            self.telling = asyncio.get_running_loop().call_later(NEWEST_EVERY_S, self._tell_newest)
        return views

    def _give_up(self, outbox: Outbox, seq: int) -> None:
        """Disconnect one viewer after an exception, without affecting the others. Called in an exception handler."""
        logger.exception("run %s: event %s could not be sent to a viewer", self.run_id, seq)
        outbox.fail()
