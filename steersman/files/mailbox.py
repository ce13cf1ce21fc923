"""The mailbox: passes commands from a supervisor to a training process, at no cost to its loop.

`mailbox` is one page of shared memory with 8-byte words. The first counts the posted commands, the second grows each
second while a supervisor is alive, the worker increases the third for each outcome in its journal, and the fourth
counts the commands that the worker has taken. `commands.jsonl` has the commands (`steersman.records.posted`), one JSON
object per line. A counter is increased after the counted data is written, so that a process that reads the counter can
read the data. Imports neither runs nor torch.
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
    def count_outcome(self) -> None: ...
    def set_taken(self, posted: int) -> None: ...


class Mailbox:
    """Both ends of an attempt's mailbox. `posted` is a view of its words: reading `posted[0]` needs no system call."""

    def __init__(self, folder: Path) -> None:
        self._commands = folder / "commands.jsonl"
        descriptor = os.open(folder / "mailbox", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < PAGE_BYTES:
                # Allocated before it is mapped: a hole on a full disk would end the training with SIGBUS.
                os.posix_fallocate(descriptor, 0, PAGE_BYTES)
            self._page = mmap.mmap(descriptor, PAGE_BYTES)
        finally:
            os.close(descriptor)
        self.posted = memoryview(self._page).cast("Q")
        self._read_bytes = 0

    def post(self, command: PostedCommand) -> None:
        """Append `command`, which the worker takes at its next step boundary. Raises `OSError` if the disk is full.

        A line begins with a line break, so that an incomplete line before it does no harm.
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
        """Return every complete command posted so far, oldest first, without incomplete lines."""
        try:
            text = self._commands.read_bytes()
        except FileNotFoundError:
            return []
        return _whole_commands(text[: text.rfind(b"\n") + 1])

    def new_commands(self) -> list[PostedCommand]:
        """Return the complete commands posted since the last call, oldest first."""
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
        """Return in how many seconds a supervisor was alive; if the counter does not change, there is none."""
        return self.posted[1]

    def heartbeat(self) -> None:
        self.posted[1] += 1

    @property
    def outcomes(self) -> int:
        """Return the number of the worker's records about commands; after a change, read its journal at once."""
        return self.posted[2]

    def count_outcome(self) -> None:
        self.posted[2] += 1

    @property
    def taken(self) -> int:
        """Return how many commands the worker has taken: fewer than were posted if it has not checked since."""
        return self.posted[3]

    def set_taken(self, posted: int) -> None:
        self.posted[3] = posted

    def settle(self) -> None:
        """Set the counter to the last command in the file: the last writer may have died between the two writes."""
        self.posted[0] = max(self.posted[0], len(self.commands()))

    def close(self) -> None:
        self.posted.release()
        self._page.close()


class NullMailbox:
    """The worker's end of a mailbox without a supervisor, into which no command is posted."""

    heartbeats = 0

    def __init__(self) -> None:
        self.posted = memoryview(bytearray(8)).cast("Q")

    def new_commands(self) -> list[PostedCommand]:
        return []

    def count_outcome(self) -> None: ...

    def set_taken(self, posted: int) -> None: ...


def _whole_commands(text: bytes) -> list[PostedCommand]:
    """Return the commands in these lines, without those that a full disk or a killed writer left incomplete."""
    found = []
    for line in text.split(b"\n"):
        if line:
            with suppress(Malformed):
                found.append(decode(PostedCommand, line))
    return found
