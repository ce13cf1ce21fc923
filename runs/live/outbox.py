"""Sending to one viewer: directly to the socket if nothing is queued, otherwise in order from a bounded queue.

A slow viewer affects no other: the queue is bounded, and if it is full, the viewer is disconnected and resumes by
`seq`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from runs.live.frames import Frame, together
from runs.metrics.portal_tally import tally
from runs.protocol.event_parts import LARGEST_EVENT_BYTES
from runs.protocol.messages import Watchers
from runs.protocol.sight import Sight
from runs.protocol.wire_format import Wire

# A viewer that lags more than this reconnects with its `seq` and is served from the database.
LARGEST_BACKLOG_BYTES = 4 << 20
LARGEST_BACKLOG_FRAMES = 5_000
# A viewer that acknowledges events and lags this much is disconnected: its page cannot keep up.
LARGEST_UNACKED_FRAMES = 4_000


class Outbox:
    """Frames for one viewer, each once and in order of `seq`. Sends nothing until `open`."""

    def __init__(self) -> None:
        self.last_seq = 0
        # The series that the viewer looks at, None for all. The room prepares frames for them.
        self.sight: Sight | None = None
        # The last event that an acknowledging viewer may be sent.
        self._cut_beyond: float = math.inf
        self.overflowed = False
        self.has_failed = False
        self.is_closed = False
        self.wire: Wire | None = None
        # Usually empty, and an empty deque takes 760 bytes, so each is created when something has to wait.
        self._first: deque[Frame] | None = None
        self._frames: deque[Frame] | None = None
        self._bytes = 0
        # The last message about watchers that the viewer got, None before its greeting.
        self.watchers: Watchers | None = None
        self.is_guest = False
        self._compressed = False
        self._send: Callable[[bytes], bool] = bool
        self._start_writing: Callable[[], object] | None = None
        # Whether a frame may go directly to the socket: nothing older is queued or being written.
        self._direct = False

    def open(
        self,
        last_seq: int,
        wire: Wire | None,
        start_writing: Callable[[], object],
        *,
        is_guest: bool = False,
        first: Sequence[Frame] = (),
        watchers: Watchers | None = None,
    ) -> None:
        """Start to send the events after `last_seq`: the frames of `first`, then those since then and all later ones.

        `start_writing()` is called whenever frames start to wait. Those of `first` do not count towards the limits,
        because viewers share them. `watchers` are the ones in the greeting.
        """
        if first:
            self._first = deque(first)
        self.last_seq = last_seq
        self.wire = wire
        if wire is not None:
            self._send, self._compressed = wire.send, wire.compressed
        self.is_guest = is_guest
        self.watchers = watchers
        self._start_writing = start_writing
        self._rest()
        if self._first or self._frames or self.overflowed:
            self._direct = False
            start_writing()

    def put(self, frame: Frame) -> None:
        """Send or queue a frame; beyond the limits, drop the queue and set `overflowed`."""
        # Called for each event and viewer, so the usual case comes first.
        if self._direct and self.last_seq < frame.first_seq and frame.seq <= self._cut_beyond:
            if not (frame.names_somebody and self.is_guest) and self.send(frame):
                self.last_seq = frame.seq or self.last_seq
                return
        elif frame.seq > self._cut_beyond:
            self._overflow()
            return
        elif self._direct:
            # The greeting contained the first of these events, or all of them.
            for part in frame.parts:
                if part.seq > self.last_seq:
                    self.put(part)
            return
        self._queue(frame)

    def send(self, frame: Frame) -> bool:
        """Pass a frame to the viewer's connection. If earlier bytes wait there, send nothing and return False."""
        wire = self.wire
        assert wire is not None
        if wire.window is None:
            return self._send(frame.wire(self._compressed))
        if not self._send(frame.wire(self._compressed, wire.window)):
            return False
        wire.window = frame.window or wire.window
        return True

    @property
    def waiting(self) -> tuple[int, int]:
        """Return how many frames wait, and their bytes, without those of the greeting."""
        return len(self._frames or ()), self._bytes

    @property
    def newest_seq(self) -> int:
        """Return the newest event that was sent or is queued."""
        waiting = [*(self._first or ()), *(self._frames or ())]
        return max(self.last_seq, *(frame.seq for frame in waiting)) if waiting else self.last_seq

    def acknowledge(self, seq: int) -> None:
        """Record that the viewer has applied all events up to `seq`; disconnect a viewer that is too far behind."""
        self._cut_beyond = seq + LARGEST_UNACKED_FRAMES

    def take(self) -> Frame | None:
        """Return the next message; None if none waits, and frames may then go directly to the socket again.

        On a wire, waiting frames are joined up to the size limit, and their metrics merged, so that a viewer that lags
        catches up at a lower cost.
        """
        taken: list[Frame] = []
        size = 0
        most = LARGEST_EVENT_BYTES if self.wire is not None else 0
        while waiting := self._first or self._frames:
            if taken and size + waiting[0].size >= most:
                break
            frame = waiting.popleft()
            if waiting is self._frames:
                self._bytes -= frame.size
            if frame.seq and frame.seq <= self.last_seq:
                continue
            taken.append(frame)
            size += frame.size + 1
            self.last_seq = frame.seq or self.last_seq
        if not taken:
            self._first = self._frames = None
            self._rest()
            return None
        return together(tuple(taken))

    def begin_anew(self, frame: Frame) -> None:
        """Drop the queue, send `frame`, and continue after its number, which may be lower than earlier ones."""
        self._first = self._frames = None
        self._bytes = 0
        self._cut_beyond = math.inf
        if self._start_writing is None:
            # The greeting in progress is outdated, so let the viewer reconnect.
            self._overflow()
            return
        self.last_seq = frame.seq - 1
        self._rest()
        self.put(frame)

    def fail(self) -> None:
        """Stop sending because a frame could not be sent; the viewer is disconnected and reconnects."""
        self.has_failed = True
        self.close()
        self._wake()

    def close(self) -> None:
        """Accept no more frames."""
        self.is_closed = True
        self._direct = False
        self._first = self._frames = None

    def _rest(self) -> None:
        self._direct = self.wire is not None and not self.overflowed and not self.is_closed

    def _queue(self, frame: Frame) -> None:
        if self.overflowed or self.is_closed:
            return
        parts = frame.parts or (frame,)
        if self._frames is None:
            self._frames = deque()
        self._frames.extend(parts)
        self._bytes += sum(part.size for part in parts)
        if self._bytes > LARGEST_BACKLOG_BYTES or len(self._frames) > LARGEST_BACKLOG_FRAMES:
            self._overflow()
            return
        self._wake()

    def _overflow(self) -> None:
        # The viewer loses nothing: it reconnects and reads them from the database.
        tally.counts.dropped_frames += len(self._frames or ())
        self._frames = None
        self._bytes = 0
        self.overflowed = True
        self._wake()

    def _wake(self) -> None:
        self._direct = False
        if self._start_writing is not None:
            self._start_writing()
