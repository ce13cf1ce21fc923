"""The link of a launch that has no portal yet: nothing is sent, and nothing arrives."""

from __future__ import annotations

from steersman.messages.link import FromHost, FromRecord


class NoLink:
    """A `steersman.messages.link.Link` without another end. All records stay in the journal on the disk."""

    def start(self) -> None: ...

    def send(self, message: FromHost) -> None: ...

    def receive(self) -> list[FromRecord]:
        return []

    def stop(self) -> None: ...
