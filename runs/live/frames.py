"""Messages to many viewers: encoded once for all viewers of a kind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

import msgspec

from runs.access import guest_view
from runs.live.database_reads import look_at_outcome, reading
from runs.protocol import merged_metrics
from runs.protocol.sight import Sight, in_sight, read_metrics
from runs.protocol.wire_format import SMALLEST_COMPRESSED_BYTES, WINDOW_BITS, deflated, text_frame

# Merged messages for viewers that lag, each from one position and of at most 64 KiB.
KEPT_TOGETHER = 16


class Frame:
    """A message to many viewers: one event, several, or one without a number.

    `first_seq` and `seq` are the numbers of its first and last event; without a number, `seq` is 0, and `first_seq` is
    greater than all others. `parts` are the frames that a joined message contains. `size` is the length of its text in
    bytes of UTF-8.
    """

    __slots__ = (
        "_after", "_for_guests", "_wires", "first_seq", "names_somebody", "parts", "payload", "seq", "size", "text",
        "window",
    )  # fmt: skip

    def __init__(self, seq: int, text: str, parts: Sequence[Frame] = (), first_seq: int = 0) -> None:
        self.seq = seq
        self.first_seq: int = first_seq or (parts[0].first_seq if parts else seq or sys.maxsize)
        self.text = text
        self.parts = parts
        self.payload = text.encode()
        self.size = len(self.payload)
        self.names_somebody: bool = (
            any(part.names_somebody for part in parts) if parts else guest_view.names_somebody(text)
        )
        # The compression window of a viewer after this frame; empty if the frame is never compressed.
        self.window = self.payload[-(1 << WINDOW_BITS) :] if self.size >= SMALLEST_COMPRESSED_BYTES else b""
        # Uncompressed and compressed.
        self._wires: list[bytes | None] = [None, None]
        # Compressed for viewers with one window, that of the first request: usually all have the same.
        self._after: tuple[bytes, bytes] | None = None
        self._for_guests: asyncio.Future[Frame] | None = None

    def wire(self, compressed: bool, window: bytes | None = None) -> bytes:
        """Return the bytes of the WebSocket frame, with or without compression.

        `window` is the window after the viewer's previous frame, which these bytes may refer to.
        """
        if window and self.window:
            if self._after is None:
                self._after = window, text_frame(deflated(self.payload, window), compressed=True)
            # Compared by identity, which is fast; an equal window of another object only costs a compression.
            if self._after[0] is window:
                return self._after[1]
        found = self._wires[compressed]
        if found is None:
            if compressed and self.size >= SMALLEST_COMPRESSED_BYTES:
                found = text_frame(deflated(self.payload), compressed=True)
            else:
                found = text_frame(self.payload)
            self._wires[compressed] = found
        return found

    async def for_guests(self) -> Frame:
        """Return the frame with names replaced by roles; all guests share one query of the database."""
        if not self.names_somebody:
            return self
        if self.parts:
            return joined([await part.for_guests() for part in self.parts])
        begin_without_names([self])
        assert self._for_guests is not None
        return await asyncio.shield(self._for_guests)


def joined(frames: Sequence[Frame]) -> Frame:
    """Return one message with the events of several frames in order: a JSON array, or the single event itself."""
    if len(frames) == 1:
        return frames[0]
    parts = [part for frame in frames for part in frame.parts or (frame,)]
    return Frame(parts[-1].seq, f"[{','.join(part.text for part in parts)}]", parts)


class Views:
    """A frame for viewers who look at some series only: parsed once, and encoded once per set of series."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._parts = [(part, read_metrics(part.text)) for part in frame.parts or (frame,)]
        self.metrics = [metrics for _, metrics in self._parts if metrics is not None]
        self._made: dict[Sight, Frame] = {}

    def of(self, sight: Sight) -> Frame:
        """Return the frame without the points of hidden series: the frame itself if it has none."""
        if not self.metrics:
            return self._frame
        if sight not in self._made:
            parts = [part if metrics is None else _seen(part, metrics, sight) for part, metrics in self._parts]
            same = all(part is whole for part, (whole, _) in zip(parts, self._parts, strict=True))
            self._made[sight] = self._frame if same else joined(parts)
        return self._made[sight]


def _seen(frame: Frame, metrics: merged_metrics.Stored, sight: Sight) -> Frame:
    seen = in_sight(metrics, sight)
    return frame if seen is metrics else Frame(frame.seq, msgspec.json.encode(seen).decode())


@lru_cache(KEPT_TOGETHER)
def together(frames: tuple[Frame, ...]) -> Frame:
    """Return one message with the events of several frames in order, with neighbouring `metrics` events merged.

    No event may be in two frames, and none may have parts. Viewers at the same position share the message.
    """
    found: list[Frame] = []
    for are_metrics, neighbours in groupby(frames, key=lambda frame: merged_metrics.is_metrics(frame.text)):
        group = list(neighbours)
        if not are_metrics or len(group) == 1:
            found += group
            continue
        place = 0
        for count, text in merged_metrics.merged([frame.text for frame in group]):
            first, last = group[place], group[place + count - 1]
            found.append(first if first is last else Frame(last.seq, text, first_seq=first.seq))
            place += count
    return joined(found)


def begin_without_names(frames: Sequence[Frame]) -> None:
    """Start to prepare the guests' versions of frames that contain names, with one database query for all guests."""
    unmade = [frame for frame in frames if frame.names_somebody and not frame.parts and not _is_made(frame._for_guests)]
    if not unmade:
        return
    made = asyncio.ensure_future(reading(guest_view.nameless_frames)([frame.text for frame in unmade]))
    for place, frame in enumerate(unmade):
        frame._for_guests = asyncio.ensure_future(_at_place(made, place, frame.seq))
        frame._for_guests.add_done_callback(look_at_outcome)


async def _at_place(made: asyncio.Future[list[str]], place: int, seq: int) -> Frame:
    return Frame(seq, (await asyncio.shield(made))[place])


def _is_made(future: asyncio.Future[Frame] | None) -> bool:
    """Return whether a query is running or has succeeded; a failed one is repeated."""
    return future is not None and not (future.done() and (future.cancelled() or future.exception() is not None))
