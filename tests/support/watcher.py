"""A third-party WebSocket client, which follows a run over reconnects as the protocol says, and keeps its messages."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import websockets
from websockets.asyncio.client import connect
from websockets.sync.client import ClientConnection

from tests.support.stack import Stack

RETRY_PAUSE_S = 0.1


def close_code_of(socket: ClientConnection, timeout_s: float = 60) -> int:
    """Return the code with which the server closes, and skip earlier messages."""
    try:
        while True:
            socket.recv(timeout=timeout_s)
    except websockets.ConnectionClosed as closed:
        assert closed.rcvd is not None, "the connection was cut without a close frame"
        return closed.rcvd.code


def ticket_of(stack: Stack, run: int, token: str) -> str:
    """Return a ticket to the run's socket for the holder of `token`."""
    asked = urllib.request.Request(
        f"{stack.address}/api/tickets/",
        json.dumps({"run": run}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked) as answer:
        return str(json.load(answer)["ticket"])


def separated(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events in a message: itself, or those that were merged for a viewer who was behind."""
    if "first_seq" not in event:
        return [event]
    return [
        {name: value for name, value in event.items() if name != "first_seq"}
        | {"seq": seq, "blocks": [part for block in event["blocks"] if (part := _block_of(block, seq))["steps"]]}
        for seq in range(event["first_seq"], event["seq"] + 1)
    ]


def _block_of(block: dict[str, Any], seq: int) -> dict[str, Any]:
    places = [place for place, number in enumerate(block["seqs"]) if number == seq]
    nonfinite = {
        name: [[places.index(place), kind] for place, kind in replaced if place in places]
        for name, replaced in block["nonfinite"].items()
    }
    own = {name: value for name, value in block.items() if name != "seqs"}
    return own | {
        "steps": [block["steps"][place] for place in places],
        "times": [block["times"][place] for place in places],
        "values": {name: [column[place] for place in places] for name, column in block["values"].items()},
        "nonfinite": {name: replaced for name, replaced in nonfinite.items() if replaced},
    }


class Watcher:
    """Follows one run until `stop`. `ticket` returns a new ticket for each connection."""

    def __init__(self, address: str, run_id: int, ticket: Callable[[], str]) -> None:
        self.address = address.replace("http", "ws", 1)
        self.run_id = run_id
        self.ticket = ticket
        self.last_seq = 0
        self.last_at = ""
        self.hello: dict[str, Any] | None = None
        self.events: list[dict[str, Any]] = []
        self.received_at: list[float] = []
        self.messages: list[dict[str, Any]] = []
        self.links: list[str] = []
        self.connections = 0
        # The numbers of the resyncs; after each, the history up to that number is read instead of events.
        self.resyncs: list[int] = []
        # The number of events at the start of each gapless sequence.
        self.begins = [0]
        self.close_codes: list[int | None] = []
        self._stopped = asyncio.Event()
        self._socket: Any = None
        self.on_event: Callable[[dict[str, Any]], None] | None = None

    async def follow(self) -> None:
        """Connect, and again after every cut, until `stop`."""
        while not self._stopped.is_set():
            try:
                ticket = await asyncio.to_thread(self.ticket)
                since = f"?since={self.last_seq}&at={self.last_at}" if self.connections else ""
                async with connect(
                    f"{self.address}/ws/runs/{self.run_id}/{since}",
                    subprotocols=["steersman.v1", f"ticket.{ticket}"],  # type: ignore[list-item]
                    max_size=None,
                    open_timeout=60,
                    compression=None,
                ) as self._socket:
                    self.connections += 1
                    async for frame in self._socket:
                        message = json.loads(frame)
                        for one in message if isinstance(message, list) else [message]:
                            self._take(one)
            except (OSError, websockets.WebSocketException, TimeoutError):
                pass
            if self._socket is not None:
                self.close_codes.append(self._socket.close_code)
            if not self._stopped.is_set():
                await asyncio.sleep(RETRY_PAUSE_S)

    async def stop(self) -> None:
        self._stopped.set()
        if self._socket is not None:
            await self._socket.close()

    async def send(self, message: dict[str, Any] | str) -> None:
        await self._socket.send(message if isinstance(message, str) else json.dumps(message))

    def _take(self, message: dict[str, Any]) -> None:
        if "seq" in message and message["kind"] not in ("hello", "resync"):
            for event in separated(message):
                self.events.append(event)
                self.received_at.append(time.time())
                self.last_seq, self.last_at = event["seq"], event["at"]
                if self.on_event is not None:
                    self.on_event(event)
            return
        self.messages.append(message)
        if message["kind"] == "hello":
            self.hello = message
            self.links.append(message["link"])
            if not message["replay"]:
                self._begin_behind(message["seq"])
        elif message["kind"] == "resync":
            # A resync right after a greeting repeats it.
            if self.begins[-1] != len(self.events) or self.last_seq != message["seq"]:
                self._begin_behind(message["seq"])
        elif message["kind"] == "link":
            self.links.append(message["link"])

    def _begin_behind(self, seq: int) -> None:
        self.resyncs.append(seq)
        self.begins.append(len(self.events))
        self.last_seq, self.last_at = seq, ""

    def steps(self, name: str) -> list[int]:
        """Return the steps of a series as received, including duplicates."""
        return [step for _, step in self.points(name)]

    def points(self, name: str) -> list[tuple[int, int]]:
        """Return attempt and step of each point of a series as received, including duplicates."""
        return [(attempt, step) for attempt, _, step in self.laps(name)]

    def laps(self, name: str) -> list[tuple[int, int, int]]:
        """Return attempt, lap and step of each point of a series as received, including duplicates."""
        return [
            (event["attempt"], (block.get("laps") or {}).get(name, 0), step)
            for event in self.events
            if event["kind"] == "metrics"
            for block in event["blocks"]
            if name in block["values"]
            for step in block["steps"]
        ]
