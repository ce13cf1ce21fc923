"""A channel layer that delays, repeats or loses announcements of events, according to `TORN_SEED`.

Seed, run and number decide the fate of an announcement, so it does not depend on other events. The layer writes a
letter for each to the file named by `TORN_NOTE`: L lost, D doubled, H held back until the next one, P passed on.
"""

from __future__ import annotations

import os
import random
from collections import deque
from pathlib import Path
from typing import Any

from monitor_site.redis_connection import OwnSocketLayer

FATES = "LDH" + 3 * "P"


def fate_of(seed: str, run_id: int, seq: int) -> str:
    return random.Random(f"{seed} {run_id} {seq}").choice(FATES)


class TornLayer(OwnSocketLayer):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._ready: deque[dict[str, Any]] = deque()
        self._held: list[dict[str, Any]] = []
        self._seed, self._note = os.environ["TORN_SEED"], Path(os.environ["TORN_NOTE"])

    async def receive(self, channel: str) -> dict[str, Any]:
        while not self._ready:
            # channels_redis creates these methods on first access.
            message: dict[str, Any] = await super().__getattr__("receive")(channel)
            if message.get("type") != "run.event":
                return message
            fate = fate_of(self._seed, message["run"], message["seq"])
            with self._note.open("a") as note:
                note.write(fate)
            if fate == "H":
                self._held.append(message)
            elif fate != "L":
                self._ready += [message, *([dict(message)] if fate == "D" else []), *self._held]
                self._held.clear()
        return self._ready.popleft()
