"""Each viewer receives every event once and in order, whatever happens in whatever order."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runs.live import greeting
from runs.live.frames import Frame
from runs.live.greeting import Greeter, Ring, read_snapshot
from runs.live.hello import Held
from runs.live.outbox import Outbox
from runs.live.room import Room

STORIES = 300


def test_the_ring_keeps_the_newest_events_within_its_bounds(monkeypatch):
    monkeypatch.setattr(greeting, "LARGEST_RING_EVENTS", 3)
    monkeypatch.setattr(greeting, "LARGEST_RING_BYTES", 100)
    ring = Ring(10)
    assert ring.after(10) == [] and ring.after(9) is None

    def frame(seq: int, size: int = 10) -> Frame:
        return Frame(seq, "x" * size)

    def held_after(seq: int) -> list[int] | None:
        found = ring.after(seq)
        return None if found is None else [frame.seq for frame in found]

    for seq in (11, 12, 13, 14):
        ring.append(frame(seq))
    assert held_after(10) is None and held_after(12) == [13, 14] and held_after(14) == []
    ring.append(frame(15, 85))
    assert held_after(13) == [14, 15] and held_after(12) is None
    ring.append(frame(16, 120))
    assert held_after(15) is None and held_after(16) == []
    ring.append(frame(18))
    assert held_after(16) is None and held_after(17) == [18]
    assert not ring.put_before([frame(17, 95)]) and ring.put_before([frame(16), frame(17)])
    assert held_after(15) == [16, 17, 18]


class Story:
    """A run whose events are stored and delivered later, and viewers who connect in between, all at random."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stored: list[str] = []
        self.folded = 0
        self.room = Room(1, 0, 0, 0.0, True)
        self.wrong: list[str] = []

    def frame(self, seq: int) -> str:
        return f'{{"seq":{seq},"kind":"log"}}'

    async def pause(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    def reading(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def read(*arguments: Any) -> Any:
            await self.pause()
            found = self.read_snapshot() if function is read_snapshot else self.replay(*arguments)
            await self.pause()
            return found

        return read

    def read_snapshot(self) -> greeting.Snapshot:
        return greeting.Snapshot(len(self.stored), self.folded, greeting.time.monotonic(), b"{}", b"{}")

    def replay(self, run_id: int, after: int, limit: int, most_bytes: int) -> list[tuple[int, str]]:
        rows = [(seq, self.frame(seq)) for seq in range(max(after, self.folded) + 1, len(self.stored) + 1)]
        return rows[:limit]

    async def record(self) -> None:
        """Store events, and deliver them later, or skip some that were folded meanwhile."""
        for _ in range(30):
            await self.pause()
            self.stored += ["event"] * self.chance.randrange(3)
            if self.chance.random() < 0.1:
                self.folded = self.chance.randint(self.folded, len(self.stored))
            if self.chance.random() < 0.7:
                self.hand_on()
        self.hand_on()

    def hand_on(self) -> None:
        while self.room.last_seq < len(self.stored):
            if self.chance.random() < 0.03:
                self.room.skip(self.room.last_seq + 1)
            else:
                self.room.deliver(self.room.last_seq + 1, self.frame(self.room.last_seq + 1))

    async def view(self, greeter: Greeter) -> None:
        """Connect at some moment, from some event, and check the received events at the end."""
        for _ in range(self.chance.randrange(20)):
            await self.pause()
        since = self.chance.choice([None, self.chance.randint(0, len(self.stored)), len(self.stored) + 7])
        outbox = Outbox()
        self.room.outboxes.add(outbox)
        held = Held(since) if since is not None else None
        found = await greeter.greet(held, is_guest=self.chance.random() < 0.5)
        begin = since if found.replays and since is not None else found.snapshot.seq
        got = [json.loads(frame.text)["seq"] for frame in found.frames]
        self.viewers.append((since, begin, got, found, outbox))

    async def play(self) -> list[str]:
        self.viewers: list[Any] = []
        viewing = [self.view(self.room.greeter) for _ in range(6)]
        async with asyncio.timeout(30):
            await asyncio.gather(self.record(), *viewing)
            self.room.flush()  # the room may hold the last event back
            for since, begin, got, found, outbox in self.viewers:
                outbox.open(found.last_seq, None, lambda: None)
                came = [(frame.seq, frame.text) for frame in iter(outbox.take, None)]
                held, resynced = begin, begin
                for seq in got:
                    self.expect(seq == held + 1, f"greeted with {seq} after {held}")
                    held = seq
                self.expect(held >= begin and found.last_seq == held, f"last {found.last_seq}, held {held}")
                for seq, frame in came:
                    if json.loads(frame)["kind"] == "resync":
                        resynced = held = seq
                        continue
                    self.expect(seq == held + 1, f"{seq} after {held}")
                    held = seq
                self.expect(held == len(self.stored), f"holds {held} of {len(self.stored)}")
                self.expect(since is None or not found.replays or found.snapshot.seq >= since, "an older snapshot")
                self.expect(resynced <= held, "resynced beyond the end")
        return self.wrong

    def expect(self, right: bool, otherwise: str) -> None:
        if not right:
            self.wrong.append(otherwise)


@pytest.fixture
def small_rings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(greeting, "LARGEST_RING_EVENTS", 15)
    return


@pytest.mark.parametrize("oldest_s", [0, 3600])
def test_every_viewer_holds_each_event_once_and_in_order(monkeypatch, small_rings, oldest_s):
    monkeypatch.setattr(greeting, "LONGEST_SNAPSHOT_AGE_S", oldest_s)
    wrong = {}
    replayed = 0
    for seed in range(STORIES):
        story = Story(seed)
        monkeypatch.setattr(greeting, "reading", story.reading)
        found = asyncio.run(story.play())
        replayed += sum(bool(viewer[3].replays) for viewer in story.viewers)
        if found:
            wrong[seed] = found
    assert not wrong
    assert replayed > STORIES, "let some viewers come back"
