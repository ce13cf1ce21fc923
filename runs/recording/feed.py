"""The only place that stores events of a run and sends them to its viewers.

Store first, announce after commit: a lost announcement costs latency, never data.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from runs.models import Run, StoredEvent
from runs.protocol.event_parts import frame_bytes, parts
from runs.protocol.events import Event, encode_event, iso
from runs.recording import announcer
from runs.statements import repeated

logger = logging.getLogger(__name__)

# Larger events are announced by number only: the viewers' servers read them from the database.
LARGEST_ANNOUNCED_BYTES = 32 * 1024
# The number of frames per read: a few of the largest frames, or some thousands of the usual ones in a few steps.
FRAMES_A_READ = 64
HEARTBEAT_MESSAGE = "run.heartbeat"
HOST_HEARTBEAT_MESSAGE = "host.heartbeat"
JOINED_MESSAGE = "viewer.joined"
# The group with the events of all runs and hosts, for processes that judge them. Each run's own group has its events
# too.
HEARTBEATS_GROUP = "heartbeats"
# How long a run counts as watched after a portal announced its first viewer. The next reads find this viewer by then.
JOINED_FOR_S = 5.0


class Watched:
    """The runs that somebody watches, as far as this process looks: events of the others need no announcement.

    A process that does not look announces all events.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: Collection[int] | None = None
        # Until when a run counts as watched, because a viewer has joined, by `time.monotonic`.
        self._joined: dict[int, float] = {}
        # The newest event of each run that was not announced.
        self._held_back: dict[int, int] = {}

    def __contains__(self, run_id: int) -> bool:
        return run_id in (self._runs or ()) or time.monotonic() < self._joined.get(run_id, 0.0)

    def replace(self, runs: Collection[int] | None) -> None:
        """Take these runs as the watched ones; None: this process no longer looks."""
        with self._lock:
            self._runs = runs
            now = time.monotonic()
            self._joined = {run_id: until for run_id, until in self._joined.items() if now < until}
            if runs is None:
                self._held_back.clear()

    def join(self, run_id: int) -> None:
        """Note a viewer who has just joined, and announce the number of the newest event that was held back."""
        with self._lock:
            self._joined[run_id] = time.monotonic() + JOINED_FOR_S
            seq = self._held_back.pop(run_id, None)
        if seq is not None:
            announcer.send(f"run.{run_id}", {"type": "run.event", "run": run_id, "seq": seq})

    def hold_back(self, run_id: int, seq: int) -> bool:
        """Return whether nobody watches the run, whose newest event is `seq`."""
        with self._lock:
            if self._runs is None or run_id in self:
                self._held_back.pop(run_id, None)
                return False
            # Threads may announce in another order than they committed.
            self._held_back[run_id] = max(seq, self._held_back.get(run_id, 0))
            return True


watched = Watched()


def append(run_id: int, *events: Event, at: datetime | None = None) -> int:
    """Store `events` under the run's next numbers, announce them after the commit, and return the last number.

    Several events in one call cost one numbering. An event that is too large for a frame becomes several, each with its
    own number. Must run inside the transaction of the described change, or opens one. Raises `Run.DoesNotExist` if
    there is no such run.
    """
    if not events:
        raise ValueError("append needs at least one event")
    moment = at or timezone.now()
    fitting = [part for event in events for part in parts(event)]
    # Whoever continues after an error here has a savepoint of their own: one per event would cost two more statements.
    with transaction.atomic(savepoint=False):
        # The update locks the run's row, so that numbers are in the order of commits, as ids might not be.
        if not repeated.update(Run, {"id": run_id}, {}, {"last_seq": len(fitting)}):
            raise Run.DoesNotExist(f"there is no run {run_id}")
        last: int = repeated.value_of(Run, "last_seq", {"id": run_id})
        first = last - len(fitting) + 1
        frames = [(seq, encode_event(event, seq, moment)) for seq, event in enumerate(fitting, start=first)]
        rows = [(run_id, seq, event.kind, moment, frame) for event, (seq, frame) in zip(fitting, frames, strict=True)]
        repeated.insert(StoredEvent, ("run_id", "seq", "kind", "at", "frame"), rows)
        transaction.on_commit(lambda: announce(run_id, frames), robust=True)
    return last


def announce(run_id: int, frames: Sequence[tuple[int, str]]) -> None:
    """Send stored (seq, frame) to the channel layer; if it is unavailable, that is logged once and costs nothing.

    If nobody watches the run, nothing is sent.
    """
    if watched.hold_back(run_id, frames[-1][0]):
        return
    for seq, frame in frames:
        message: dict[str, object] = {
            "type": "run.event",
            "run": run_id,
            "seq": seq,
            # To measure the time until the sockets.
            "announced": time.time(),
        }
        if frame_bytes(frame) <= LARGEST_ANNOUNCED_BYTES:
            message["event"] = frame
        announcer.send(f"run.{run_id}", message)


def announce_viewer(run_id: int) -> None:
    """Notify the process that stores the events of a run that a viewer has joined."""
    announcer.send(f"owner.{run_id}", {"type": JOINED_MESSAGE, "run": run_id})


def announce_heartbeat(run_id: int, attempt: int) -> None:
    """Send a heartbeat of a run to viewers and all portals, for an owner that cannot write it to the database now."""
    for group in (f"run.{run_id}", HEARTBEATS_GROUP):
        announcer.send(group, {"type": HEARTBEAT_MESSAGE, "run": run_id, "attempt": attempt})


def announce_host_heartbeat(host: str) -> None:
    """Send a heartbeat of a host's `watch` to all portals, for one that cannot write it to the database now."""
    announcer.send(HEARTBEATS_GROUP, {"type": HOST_HEARTBEAT_MESSAGE, "host": host})


def announce_command(run_id: int) -> None:
    """Notify the owner of a run that a command waits in the database. Call inside the command's transaction."""
    transaction.on_commit(
        lambda: announcer.send(f"owner.{run_id}", {"type": "command.waiting", "run": run_id}), robust=True
    )


def time_of(run_id: int, seq: int) -> str | None:
    """Return the `at` of an event as it was sent, None if it is not stored, or was compacted."""
    at = StoredEvent.objects.filter(run_id=run_id, seq=seq).values_list("at", flat=True).first()
    return iso(at) if at is not None else None


def replay(run_id: int, after: int, limit: int, most_bytes: int) -> list[tuple[int, str]]:
    """Return at most `limit` stored (seq, frame) with seq > `after`, in order.

    Returns at most `most_bytes` of frames, but at least one event.
    """
    rows = StoredEvent.objects.filter(run_id=run_id, seq__gt=after).order_by("seq").values_list("seq", "frame")[:limit]
    found: list[tuple[int, str]] = []
    taken = 0
    for seq, frame in rows.iterator(chunk_size=FRAMES_A_READ):
        taken += frame_bytes(frame)
        if found and taken > most_bytes:
            break
        found.append((seq, frame))
    return found
