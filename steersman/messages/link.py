"""The interface through which a host side and a record side exchange messages, in one process or over a socket."""

from __future__ import annotations

from typing import Protocol

from steersman.messages.ended import Concluded, Ended, Fenced
from steersman.messages.orders import EndProcess, Post
from steersman.messages.reports import Attach, Attached, Report, Stored

FromHost = Attach | Report | Ended
FromRecord = Attached | Stored | Post | EndProcess | Fenced | Concluded


class LinkCut(Exception):
    """The connection to the record side broke and was restored.

    Messages in transit may have arrived or not: begin with `Attach`.
    """


class RecordSideClosed(Exception):
    """Nothing more can be stored. The text gives the reason and the remedy."""


class Link(Protocol):
    """The host side's end. Neither method blocks.

    `receive` raises `LinkCut` after the connection broke, and within one process the error that ended the record side,
    such as `RecordSideClosed`.
    """

    def send(self, message: FromHost) -> None: ...
    def receive(self) -> list[FromRecord]: ...
