"""A page whose series in sight change has the same data for them as a fresh page.

Of the other series it has the newest point. The room of a run produces the portal's messages, and the page's own
reducer follows them in node: see `tests.live.test_page_state`.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from runs.live import room as room_module
from runs.live.frames import Frame
from runs.live.outbox import Outbox
from runs.live.room import Room
from tests.live.recorded.recorded_run import RecordedRun
from tests.live.test_outbox import Connection, events_of, opened
from tests.live.test_page_state import LONGEST_STORY, differences, told

pytestmark = pytest.mark.django_db
STORIES = 10
PAGES = 4


class Viewer:
    """A page and its socket: `told` lists everything that happens to the page, in order."""

    def __init__(self, run: RecordedRun, chance: random.Random) -> None:
        self.run, self.chance = run, chance
        self.texts = run.texts()
        cut = chance.choice(run.cuts[: len(run.cuts) // 2 + 1])
        self.held = cut["seq"]
        self.told: list[dict[str, Any]] = [{**cut["history"], "kind": "history"}, {**cut["hello"], "replay": True}]
        self.room = Room(run.pk, last_seq=self.held, heartbeat=0, alive_at=0.0, live=True)
        self.names = sorted(run.cuts[-1]["history"]["series"])
        # Requests that the portal has not read yet, and the number from which the page must read the past.
        self.asked: list[list[str]] = []
        self.unread: int | None = None
        self.box = self._connect()
        self.counts = dict.fromkeys(("looked", "points", "merged", "cuts"), 0)

    def _connect(self, first: list[Frame] | None = None) -> Outbox:
        self.connection = Connection()
        self.room.outboxes.clear()
        self.asked.clear()
        box = opened(self.connection, self.held, first=first or [])
        self.room.outboxes.add(box)
        return box

    async def follow(self) -> None:
        waiting = [(seq, text) for seq, text in self.texts if seq > self.held]
        for seq, text in waiting:
            self.connection.takes = self.chance.random() < 0.5
            self.room.deliver(seq, text)
            if self.chance.random() < 0.4:
                self.look(self.chance.sample(self.names, self.chance.randrange(len(self.names) + 1)))
            if self.asked and self.chance.random() < 0.6:
                self.hear()
            # Then the portal sends the newest points.
            await asyncio.sleep(0)
            if self.chance.random() < 0.6:
                self.read()
            if self.chance.random() < 0.4:
                self.fetch()
            if self.chance.random() < 0.3:
                self.cut(seq)
        # Everything in transit arrives; then some pages change their series again.
        self.connection.takes = True
        while self.asked:
            self.hear()
        await self.settle()
        if not self.counts["looked"] or self.chance.random() < 0.3:
            self.look(self.chance.sample(self.names, (len(self.names) + 1) // 2))
            self.hear()
            await self.settle()
        self.fetch(last=True)

    async def settle(self) -> None:
        # Events in such fast succession share messages.
        self.room.flush()
        while self.room.telling is not None:
            await asyncio.sleep(0)
        self.read()

    def look(self, names: list[str]) -> None:
        self.asked.append(names)
        self.told.append({"kind": "looked", "series": names})
        self.counts["looked"] += 1

    def hear(self) -> None:
        self.room.look(self.box, frozenset(self.asked.pop(0)))

    def read(self) -> None:
        """Deliver the sent messages to the page, and then the waiting ones, merged if there are several."""
        frames, self.connection.frames = self.connection.frames, []
        while (message := self.box.take()) is not None:
            frames.append(message.wire(compressed=False))
        for message in (event for frame in frames for event in events_of(frame)):
            self.told.append(message)
            if message["kind"] == "sight":
                self.unread = message["seq"]
            elif message["kind"] != "newest":
                self.held = message.get("seq", self.held)
            self.counts["merged"] += "first_seq" in message

    def fetch(self, *, last: bool = False) -> None:
        """Read the past as of any moment from now on; now and then, as of a moment that is too early."""
        if self.unread is None:
            return
        late = [cut for cut in self.run.cuts if cut["seq"] >= self.unread]
        cut = late[-1] if last else self.chance.choice(late if self.chance.random() < 0.9 else self.run.cuts)
        self.told.append({"kind": "points", "seq": cut["seq"], "series": cut["history"]["series"]})
        self.counts["points"] += 1

    def cut(self, newest: int) -> None:
        """Cut the socket: messages in transit are lost, and the page reconnects with its last event."""
        cut = next((cut for cut in self.run.cuts if cut["seq"] == newest), None)
        if cut is None:
            return
        first = [Frame(seq, text) for seq, text in self.texts if self.held < seq <= newest]
        self.box = self._connect(first)
        self.told.append({**cut["hello"], "replay": True})
        self.look(self.chance.sample(self.names, len(self.names) // 2))
        self.counts["cuts"] += 1

    @property
    def page(self) -> dict[str, Any]:
        return {"name": f"in sight, from {self.told[0]['seq']}", "told": self.told, "looks": True}


def followed(run: RecordedRun, chance: random.Random) -> Viewer:
    viewer = Viewer(run, chance)
    asyncio.run(viewer.follow())
    return viewer


def stories_in_sight(folder: Path, seeds: range) -> list[dict[str, Any]]:
    stories = []
    counts = dict.fromkeys(("looked", "points", "merged", "cuts"), 0)
    for seed in seeds:
        chance = random.Random(seed)
        run = RecordedRun(folder / "runs", chance, name=f"seed {seed}")
        run.start()
        run.log_points()
        run.cut()
        for _ in range(2 * LONGEST_STORY):
            if run.training is not None and run.state == "running" and chance.random() < 0.6:
                run.log_points(chance.choice((1, 2, 5)))
            else:
                chance.choice(run.legal())()
            if chance.random() < 0.5:
                run.cut()
        run.close()
        story = told(run)
        viewers = [followed(run, chance) for _ in range(PAGES)]
        story["pages"] = [viewer.page for viewer in viewers]
        for viewer in viewers:
            for name, count in viewer.counts.items():
                counts[name] += count
        # Other tests follow the other pages of such stories.
        stories.append({"name": run.name, "cuts": run.cuts[-1:], "frames": [], "pages": story["pages"]})
    assert all(count > len(seeds) / 2 for count in counts.values()), f"let stories have more of what is shown: {counts}"
    return stories


def test_what_it_looks_at_is_whole_and_of_the_rest_it_has_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "NEWEST_EVERY_S", 0.0)
    assert differences(stories_in_sight(tmp_path, range(STORIES)), tmp_path) == []
