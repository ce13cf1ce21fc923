"""How a host side and a record side exchange messages, in one process or over a socket."""

from __future__ import annotations

from typing import Protocol

from steersman.messages.ended import Concluded, Ended, Fenced
from steersman.messages.orders import EndProcess, Post
from steersman.messages.reports import Attach, Attached, Report, Stored

FromHost = Attach | Report | Ended
FromRecord = Attached | Stored | Post | EndProcess | Fenced | Concluded


class LinkCut(Exception):
    """The way to the record side was broken and is found again.

    What was on its way may have arrived or not: begin with `Attach`.
    """


class RecordSideGone(Exception):
    """Nothing can be stored any more. The text says why, and what a person is to do."""


class Link(Protocol):
    """The host side's end. Neither method waits.

    `receive` raises `LinkCut` after the way was broken, and in one process what ended the record side:
    `RecordSideGone`, or the error of which it died.
    """

    def send(self, message: FromHost) -> None: ...
    def receive(self) -> list[FromRecord]: ...
