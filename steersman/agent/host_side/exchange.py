"""Exchanges messages with the record side: one report is in transit at a time, and none is lost.

No Django, no torch.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import uuid4

from steersman.agent.host_side.transit_time import TransitTime
from steersman.agent.reporting.report_sequence import Outcome, ReportSequence
from steersman.agent.reporting.ticks import Tick
from steersman.messages.ended import Concluded, Ended, Fenced
from steersman.messages.link import FromRecord, Link, LinkCut
from steersman.messages.orders import EndProcess, Post
from steersman.messages.reports import Attach, Attached, Stored

logger = logging.getLogger(__name__)

# The pause before a retry, if the disk refuses records that are to be set aside.
DISK_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Settled:
    """A tick was stored. `sent_at` is when its report was first sent, in seconds of `time.monotonic`."""

    tick: Tick
    sent_at: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A tick was not stored: its parts of journals and consoles are read again."""

    tick: Tick


@dataclass(frozen=True, slots=True)
class Behind:
    """The record side has `number` reports, fewer than before: attach, and continue to read from there."""

    number: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection to the record side broke: attach again."""


News = Attached | Settled | Lost | Behind | Cut | Post | EndProcess | Fenced | Concluded


class Exchange:
    """Sends the reports of a host side, and returns the news in the answers. No method blocks."""

    def __init__(self, link: Link, reports: ReportSequence) -> None:
        self._link = link
        self._reports = reports
        # Answers in order. The first one stays until the disk has stored the records that it asks to set aside.
        self._arrived: deque[FromRecord] = deque()
        self._token = ""
        self._attached_at = 0.0
        self._transit = TransitTime()
        self._unsent: Tick | None = None
        self._sent_at = 0.0
        self._retry_at = 0.0
        self._disk_refuses = False
        # When the last message arrived, in seconds of `time.monotonic`.
        self.heard_at = 0.0
        # The time between two reports that the record side asks for, None if it does not.
        self.report_every_s: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether the next report can be sent: a session has begun, and every message is answered."""
        has_session = self._reports.is_attached and not self._token
        return has_session and self._reports.under_way is None and not self._arrived

    def attach(self, posted: Iterable[str], now: float) -> None:
        """Begin a session. Messages in transit are dropped when the answer arrives."""
        self._token, self._attached_at = uuid4().hex, now
        self._unsent = None
        self._link.send(Attach(self._token, tuple(posted)))

    def report(self, tick: Tick, now: float) -> None:
        """Send the report of a tick; call while `is_idle`."""
        self._unsent, self._sent_at = tick, now
        try:
            self._send()
        except OSError as error:
            self._note_refusal(error, now)

    def send_end(self, ended: Ended) -> None:
        """Report how the attempt has ended. The answer is `Concluded`."""
        self._link.send(ended)

    def poll(self, now: float) -> list[News]:
        """Return the news since the last call. Raises the errors of `Link.receive`."""
        try:
            came = self._link.receive()
        except LinkCut:
            self._arrived.clear()
            return [Cut()]
        if came:
            self.heard_at = now
            self._arrived += came
        news: list[News] = []
        if now < self._retry_at:
            return news
        try:
            self._send()
            while self._arrived:
                news += self._take(self._arrived[0], now)
                self._arrived.popleft()
            self._disk_refuses = False
        except OSError as error:
            self._note_refusal(error, now)
        return news

    def _send(self) -> None:
        if self._unsent is not None:
            self._link.send(self._reports.report(self._unsent))
            self._unsent = None

    def _take(self, message: FromRecord, now: float) -> list[News]:
        match message:
            case Stored():
                return self._take_stored(message)
            case Attached():
                if message.token != self._token:
                    return []
                self._token = ""
                self._transit.restart()
                self._transit.note_answer(self._attached_at, message.made_at_s)
                return self._begin_session(message)
            case Post():
                return [self._without_transit(message, now)]
        return [message]

    def _without_transit(self, post: Post, now: float) -> Post:
        """Return a command that arrives now with the seconds that are left to it now."""
        if post.expires_in_s is None:
            return post
        return replace(post, expires_in_s=post.expires_in_s - self._transit.at_most_s(post.made_at_s, now))

    def _begin_session(self, attached: Attached) -> list[News]:
        tick = self._reports.under_way
        is_stored = self._reports.begin_session(attached)
        if tick is None:
            return [attached]
        return [Settled(tick, self._sent_at) if is_stored else Lost(tick), attached]

    def _take_stored(self, stored: Stored) -> list[News]:
        tick = self._reports.under_way
        if tick is None or self._token:
            return []
        self.report_every_s = stored.report_every_s
        outcome = self._reports.take(stored)
        if outcome is Outcome.SEND_AGAIN:
            self._link.send(self._reports.report(tick))
        elif outcome is Outcome.STORED:
            self._transit.note_answer(self._sent_at, stored.made_at_s)
            return [Settled(tick, self._sent_at)]
        elif outcome is Outcome.BEHIND:
            return [Behind(stored.number)]
        return []

    def _note_refusal(self, error: OSError, now: float) -> None:
        self._retry_at = now + DISK_PAUSE_S
        if not self._disk_refuses:
            logger.warning(
                "quarantine.bin could not be written (%s): free space on its disk, or check the permissions of its "
                "folder. The records are kept until they can be written",
                error.strerror,
            )
        self._disk_refuses = True
