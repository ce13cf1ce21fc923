"""A watched run: its viewers, and the events on their way to them."""

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
from runs.protocol.messages import Message, Resync, Watchers, encode_message
from runs.protocol.messages import Sight as SightTaken
from runs.protocol.sight import NewestPoints, Sight
from runs.recording.lifecycle import LIVE, UNREACHABLE_AFTER_S
from runs.recording.liveness import life_after, told_heartbeats

logger = logging.getLogger(__name__)

# The interval of polling the database.
POLL_INTERVAL_S = 1.0
# A room that needs more sends per second than this, which take some 2 % of a core, gets two events in one message: half
# the work. The first waits for the second, which is near at such a rate, no longer than `GATHER_S`.
BUSY_SENDS_PER_S = 2_000
GATHER_S = 0.1
# Announcements that come so long after their events were stored are late.
LATE_S = 1.0
LOST_S = 10.0
# Viewers who have selected series get the newest points of the others this often.
NEWEST_EVERY_S = 1.0
# Each different choice of series costs its own frames. A further choice is replaced by a larger one that includes it.
MOST_SIGHTS = 64
# The rate of events is that of the last few.
RATE_EVENTS = 8


@dataclass(slots=True)
class Room:
    """A watched run: its viewers, the last event handed to them, and evidence of life.

    `stored_seq` is the newest event that the database was seen to have.
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
    told_alive_at: float = -math.inf
    # What was read from the database before it was announced, and when.
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
    announced: list[float] = field(default_factory=list)  # of events on their way, by `time.time`
    delivered_at: deque[float] = field(default_factory=lambda: deque([-math.inf], RATE_EVENTS))  # by `time.monotonic`

    @classmethod
    async def open(cls, run_id: int) -> Room:
        """Read the run and return its room. Raises `Run.DoesNotExist`."""
        run: Run = await reading(Run.objects.get)(pk=run_id)
        live = run.state in LIVE
        # The clock of the run's host may be wrong: the stored time of its last heartbeat alone never makes a run
        # unreachable. A run that really is unreachable becomes so at the second poll.
        silent_s = (timezone.now() - run.heartbeat_at).total_seconds() if live and run.heartbeat_at else 0.0
        silent_s = max(0.0, min(silent_s, UNREACHABLE_AFTER_S - POLL_INTERVAL_S))
        alive_at = time.monotonic() - silent_s
        room = cls(run_id, run.last_seq, run.heartbeat, alive_at, live, life=life_after(silent_s), attempt=run.attempt)
        room.told_alive_at = told_heartbeats.told_at(run_id, run.attempt)
        return room

    def __post_init__(self) -> None:
        self.greeter = Greeter(self.run_id, self.last_seq)

    @property
    def newest_seq(self) -> int:
        """The newest event that is known here, whether or not it was handed on."""
        return max(self.last_seq, self.stored_seq)

    def note_unannounced(self, seq: int) -> None:
        """Take note that the database has an event up to `seq` that was not announced yet."""
        self._unannounced_seq = seq
        if self._unannounced_since is None:
            self._unannounced_since = time.monotonic()

    def note_announced(self, seq: int) -> None:
        """Take note of the announcement of an event. One long after the database had it makes the room late."""
        if self._unannounced_since is None:
            return
        now = time.monotonic()
        if now - self._unannounced_since > LATE_S:
            self._late_until = now + LATE_S
        if seq >= self._unannounced_seq:
            self._unannounced_since = None

    def expect_no_announcements(self) -> None:
        """Take note that none can come: those that do not come are no sign of a slow layer."""
        self._unannounced_since = None

    def is_late(self) -> bool:
        """Return whether announcements come more than `LATE_S` after the database has their events, or not at all."""
        now = time.monotonic()
        since = self._unannounced_since
        # One that was lost, and is followed by none, says nothing of those to come.
        waits = since is not None and LATE_S < now - since < LOST_S
        return waits or now < self._late_until

    def deliver(self, seq: int, text: str) -> None:
        """Hand an event to all viewers: the same bytes to all of a kind. A busy room gets two in one message."""
        frame = Frame(seq, text)
        if frame.size > LARGEST_FRAME_BYTES:
            # Stored by a version before this one, or by a training that still runs with it.
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
        """Return whether this event and those before it make more than `BUSY_SENDS_PER_S`."""
        now = time.monotonic()
        sends = len(self.outboxes) * len(self.delivered_at)
        busy = sends > BUSY_SENDS_PER_S * (now - self.delivered_at[0])
        self.delivered_at.append(now)
        return busy

    def flush(self) -> None:
        """Send what is held back for the next event."""
        frame, self.gathered = self.gathered, None
        if self.flushing is not None:
            self.flushing.cancel()
            self.flushing = None
        if frame is not None:
            self._send(frame)

    def skip(self, seq: int) -> None:
        """Continue after `seq`, and notify viewers that events up to there are only in the history."""
        tally.counts.skipped_events += seq - self.last_seq
        self.last_seq = seq
        self.greeter.ring.skip(seq)
        self.flush()
        self.newest.clear()
        self._send(Frame(seq, encode_message(Resync(seq=seq))))

    def begin_anew(self, seq: int) -> None:
        """Go on after `seq` of a database that holds another past of the run, and let viewers load it."""
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
        """Send the watchers to the viewers whose last message differs. Guests get no names."""
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
        """Send a viewer from now on the points of the series in `sight` and, of the others, the newest now and then.

        The viewer is told after which event that is.
        """
        if outbox.sight is not None:
            # Series that come into sight are not in later `newest` messages: their newest points are sent now.
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
        """Tell each viewer of the newest points of series that are not in sight."""
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
        """Return the part of a frame for viewers who selected some series, and note the points to send later."""
        views = Views(frame)
        for metrics in views.metrics:
            self.newest.note(metrics)
        if self.newest and self.telling is None:
            self.telling = asyncio.get_running_loop().call_later(NEWEST_EVERY_S, self._tell_newest)
        return views

    def _give_up(self, outbox: Outbox, seq: int) -> None:
        """End one viewer, whose fault is not that of the others. Called where an exception is handled."""
        logger.exception("run %s: event %s could not be sent to a viewer", self.run_id, seq)
        outbox.fail()
