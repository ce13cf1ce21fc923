"""A simulated training host, which sends reports without a training. One process can have many of them."""

from __future__ import annotations

import asyncio
import math
import time

from websockets.asyncio.client import ClientConnection, connect

import steersman
from steersman.messages.reports import Attach, Attached, Position, Report, Stored
from steersman.records.kinds import PointRecord
from steersman.records.point_blocks import in_blocks
from steersman.wire.codec import decode, encode

PROTOCOL = "steersman.host.v1"
SAMPLE_INTERVAL_S = 2.0
HEARTBEAT_INTERVAL_S = 1.0
BYTES_PER_POINT = 60
SAMPLES = ("cpu_percent", "memory_percent", "process_memory_mib", "gpu0_percent", "gpu0_memory_mib", "gpu0_power_w")


class LightHost:
    """Reports the points that a training would have logged since the last report."""

    def __init__(self, address: str, run_id: int, attempt: int, token: str, points_per_second: float) -> None:
        self.run_id = run_id
        # The number of the last stored report, and the last step in it.
        self.stored = self.stored_step = 0
        self.report_every_s = 1.0
        self.ends = False
        self._address = f"{address}/ws/hosts/?run={run_id}&attempt={attempt}"
        self._headers = {"Authorization": f"Bearer {token}", "Steersman-Version": steersman.__version__}
        self._rate = points_per_second
        self._sampled_at = self._heartbeat_at = 0.0

    async def report_forever(self) -> None:
        """Report until `ends` is set; one report is under way at a time."""
        async with connect(
            self._address, subprotocols=[PROTOCOL], additional_headers=self._headers, compression=None, max_size=None,  # type: ignore[list-item]
            open_timeout=60, proxy=None,
        ) as socket:  # fmt: skip
            await socket.send(encode(Attach("bench")))
            attached: Attached = await self._hear(socket, Attached)
            # Hosts report at different moments.
            began = time.monotonic() - (self.run_id % 97) / 97
            await asyncio.sleep((self.run_id % 97) / 97)
            while not self.ends:
                sent_at = time.monotonic()
                step = int((sent_at - began) * self._rate)
                await socket.send(encode(self._report(attached.session, step)))
                found: Stored = await self._hear(socket, Stored)
                assert found.number == self.stored + 1, found
                self.stored, self.stored_step = found.number, step
                self.report_every_s = found.report_every_s or self.report_every_s
                await asyncio.sleep(max(0.0, sent_at + self.report_every_s - time.monotonic()))

    async def _hear(self, socket: ClientConnection, kind: type) -> object:
        while True:
            found = decode(bytes(await socket.recv()))  # type: ignore[arg-type]
            if isinstance(found, kind):
                return found

    def _report(self, session: int, step: int) -> Report:
        now, first = time.monotonic(), self.stored_step
        times = time.time()
        records = [
            PointRecord(
                step=each, number=each - 1, time=times - (step - each) / self._rate,
                values={"called_at": times, "loss": math.exp(-each / 1000), "accuracy": 1 - math.exp(-each / 1000)},
            )
            for each in range(first + 1, step + 1)
        ]  # fmt: skip
        system: dict[str, float | None] | None = None
        if now - self._sampled_at >= SAMPLE_INTERVAL_S:
            self._sampled_at, system = now, dict.fromkeys(SAMPLES, now % 90)
        backlog = None
        if now - self._heartbeat_at >= HEARTBEAT_INTERVAL_S:
            self._heartbeat_at, backlog = now, 0
        return Report(
            session, self.stored + 1, self._positions(first), self._positions(step), in_blocks(records), system=system,
            backlog_bytes=backlog,
        )  # fmt: skip

    def _positions(self, step: int) -> dict[int, Position]:
        return {0: Position(0, BYTES_PER_POINT * step, step)}
