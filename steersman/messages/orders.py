"""Messages about commands of people, rules and signals, on their way to the training and to the command log."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from steersman.records.posted import PostedCommand
from steersman.records.typed_json import Json


@dataclass(frozen=True, slots=True)
class Post:
    """A command for the training. It expires `expires_in_s` seconds after `made_at_s`, None if it never does.

    The portal's clock determines the remaining time, and a monotonic clock counts it on the host. `made_at_s` is in
    seconds of `time.monotonic` in the process that made the message: see `Stored`.
    """

    command: PostedCommand
    expires_in_s: float | None = None
    made_at_s: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class EndProcess:
    """The process of the training must end, as `author` requested."""

    author: str


@dataclass(frozen=True, slots=True)
class SignalRequest:
    """The request of a signal, which the training already has: for the command log. `id` is that of the command."""

    id: str
    command: str
    author: str
    arguments: dict[str, Json] = field(default_factory=dict)


Order = Post | EndProcess
