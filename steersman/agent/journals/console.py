"""Follows the worker's console. It is a file, because `print` would block on a pipe without a reader.

No Django, no torch.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

LARGEST_BYTES_A_SECOND = 64 * 1024
# Enough for the summary of a model or a long traceback.
LARGEST_BURST_BYTES = 1 << 20
# The bursts of all ranks but the first share this, because one report contains them all, and marks each line with its
# rank: short lines become several times as long.
LARGEST_OTHER_BURSTS_BYTES = 1 << 20
LARGEST_LINE_CHARACTERS = 2_000
# A last line without a line break is shown after this time, so that prompts and progress bars are visible.
UNFINISHED_AFTER_S = 0.3
LARGEST_UNFINISHED_CHARACTERS = 500

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ConsoleRead:
    """Lines of text, the number of skipped bytes, and where the next read starts.

    `unfinished` is the last line if it has no line break yet, otherwise "": the next read returns it again.
    """

    lines: list[str]
    skipped_bytes: int
    offset: int
    unfinished: str = ""


class ConsoleTail:
    """Reads a growing console file from `offset`: LARGEST_BYTES_A_SECOND, and `burst_bytes` after a pause."""

    def __init__(self, path: Path, offset: int = 0, burst_bytes: int | None = None) -> None:
        """`burst_bytes` is LARGEST_BURST_BYTES if it is None."""
        self.path = path
        self.offset = offset
        self._burst_bytes = LARGEST_BURST_BYTES if burst_bytes is None else burst_bytes
        self._allowance = float(self._burst_bytes)
        self._measured_at = time.monotonic()
        self._unfinished_since: float | None = None

    def read(self, ended: bool = False) -> ConsoleRead:
        """Return the text after `offset`, which is only moved by `advance`, once the text is stored."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return ConsoleRead([], 0, self.offset)
        now = time.monotonic()
        self._allowance = min(self._burst_bytes, self._allowance + (now - self._measured_at) * LARGEST_BYTES_A_SECOND)
        self._measured_at = now
        if size <= self.offset:
            self._unfinished_since = None
            return ConsoleRead([], 0, min(self.offset, size))
        skipped = max(0, size - self.offset - int(self._allowance))
        with self.path.open("rb") as file:
            file.seek(self.offset + skipped)
            data = file.read(size - self.offset - skipped)
        begun = data.find(b"\n") + 1
        if skipped and begun < len(data):
            # The rest of a line without its beginning is not useful, and may be a part of a secret.
            skipped, data = skipped + begun, data[begun:]
        whole = data.rfind(b"\n") + 1
        begins = whole + _overwritten(data[whole:])
        if ended or len(data) - begins > LARGEST_LINE_CHARACTERS * 4 or (skipped and not begins):
            whole = begins = len(data)
        lines = _lines(data[:whole]) if whole else []
        unfinished = self._unfinished(data[begins:], now, is_new=bool(whole))
        return ConsoleRead(lines, skipped, self.offset + skipped + begins, unfinished)

    def _unfinished(self, data: bytes, now: float, *, is_new: bool) -> str:
        """Return a line without a line break that is older than UNFINISHED_AFTER_S, else ""."""
        if not data:
            self._unfinished_since = None
        elif is_new or self._unfinished_since is None:
            self._unfinished_since = now
        if self._unfinished_since is None or now - self._unfinished_since < UNFINISHED_AFTER_S:
            return ""
        return _lines(data)[-1][:LARGEST_UNFINISHED_CHARACTERS]

    def has_output(self) -> bool:
        """Whether anything was printed yet."""
        return self.path.is_file() and self.path.stat().st_size > 0

    def advance(self, read: ConsoleRead) -> None:
        """Continue after the stored position."""
        self._allowance -= max(0, read.offset - self.offset - read.skipped_bytes)
        self.offset = read.offset

    def last_line(self) -> str:
        """Return the last line that is not blank among the file's last bytes, "" if there is none."""
        try:
            with self.path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 8192))
                lines = [line for line in _lines(file.read()) if line.strip()]
        except FileNotFoundError:
            return ""
        return lines[-1].strip() if lines else ""


def _overwritten(line: bytes) -> int:
    """Return how many bytes at the beginning of a line a carriage return has overwritten."""
    return line.rstrip(b"\r").rfind(b"\r") + 1


def _lines(data: bytes) -> list[str]:
    lines = []
    for line in data.decode("utf-8", "replace").removesuffix("\n").split("\n"):
        # Text before a carriage return was overwritten on the terminal.
        shown = line.rstrip("\r").rsplit("\r", 1)[-1]
        lines.append(_cut(_CONTROLS.sub("", _ESCAPES.sub("", shown))))
    return lines


def _cut(line: str) -> str:
    """Return a line with a limited length; if it is cut, it says how much is missing."""
    more = len(line) - LARGEST_LINE_CHARACTERS
    return line if more <= 0 else f"{line[:LARGEST_LINE_CHARACTERS]} … ({more} more characters)"
