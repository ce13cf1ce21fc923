"""The mailbox: passes commands from a supervisor to a training process, at no cost to its loop.

`mailbox` is one page of shared memory of 8-byte words: the first counts the commands posted so far, the second
is raised each second while a supervisor lives, the third by the worker for each outcome in its journal; the fourth
is how many commands the worker has taken.
`commands.jsonl` holds the commands (`steersman.records.posted`), a JSON object a line. A counter is raised after what
it counts is written, so that a process which sees the count can read it. Imports neither runs nor torch.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from steersman.records.posted import PostedCommand
from steersman.records.typed_json import Malformed, decode, encode

PAGE_BYTES = 4096


class Inbox(Protocol):
    """The worker's end of a mailbox."""

    posted: memoryview[int]

    @property
    def heartbeats(self) -> int: ...
    def new_commands(self) -> list[PostedCommand]: ...
    def tell_outcome(self) -> None: ...
    def tell_taken(self, posted: int) -> None: ...


class Mailbox:
    """Both ends of an attempt's mailbox. `posted` is a view of its words: `posted[0]`, no system call."""

    def __init__(self, folder: Path) -> None:
        self._commands = folder / "commands.jsonl"
        descriptor = os.open(folder / "mailbox", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < PAGE_BYTES:
                # Whole before it is mapped: a hole on a full disk would end the training with SIGBUS.
                os.posix_fallocate(descriptor, 0, PAGE_BYTES)
            self._page = mmap.mmap(descriptor, PAGE_BYTES)
        finally:
            os.close(descriptor)
        self.posted = memoryview(self._page).cast("Q")
        self._read_bytes = 0

    def post(self, command: PostedCommand) -> None:
        """Append `command` for the worker to take at its next step boundary. Raises `OSError` if the disk is full.

        A line begins with its own end of line, so that one that was torn before it spoils nothing.
        """
        line = b"\n" + encode(command) + b"\n"
        descriptor = os.open(self._commands, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
        self.posted[0] += 1

    def commands(self) -> list[PostedCommand]:
        """Return every whole command posted so far, oldest first; torn lines are left out."""
        try:
            text = self._commands.read_bytes()
        except FileNotFoundError:
            return []
        return _whole_commands(text[: text.rfind(b"\n") + 1])

    def new_commands(self) -> list[PostedCommand]:
        """Return the whole commands posted since the last call, oldest first."""
        try:
            with self._commands.open("rb") as file:
                file.seek(self._read_bytes)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text.rfind(b"\n") + 1
        self._read_bytes += whole
        return _whole_commands(text[:whole])

    @property
    def heartbeats(self) -> int:
        """Count the seconds in which a supervisor was alive; if the counter does not change, there is none."""
        return self.posted[1]

    def heartbeat(self) -> None:
        self.posted[1] += 1

    @property
    def outcomes(self) -> int:
        """Count the worker's records about commands: after a change, its journal is to be read at once."""
        return self.posted[2]

    def tell_outcome(self) -> None:
        self.posted[2] += 1

    @property
    def taken(self) -> int:
        """Count the commands that the worker has taken: fewer than were posted where it has not looked since."""
        return self.posted[3]

    def tell_taken(self, posted: int) -> None:
        self.posted[3] = posted

    def settle(self) -> None:
        """Raise the counter to the last one in the file: the last writer may have died between the two writes."""
        self.posted[0] = max(self.posted[0], len(self.commands()))

    def close(self) -> None:
        self.posted.release()
        self._page.close()


class NullMailbox:
    """The worker's end of a mailbox without a supervisor: no command is posted into it."""

    heartbeats = 0

    def __init__(self) -> None:
        self.posted = memoryview(bytearray(8)).cast("Q")

    def new_commands(self) -> list[PostedCommand]:
        return []

    def tell_outcome(self) -> None: ...

    def tell_taken(self, posted: int) -> None: ...


def _whole_commands(text: bytes) -> list[PostedCommand]:
    """Return the commands of these lines, without those that a full disk or a killed writer left in part."""
    found = []
    for line in text.split(b"\n"):
        if line:
            with suppress(Malformed):
                found.append(decode(PostedCommand, line))
    return found
