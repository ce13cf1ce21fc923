"""Refusals are delayed, and those of one address are sent one after another."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from monitor_site import slow_refusals
from monitor_site.slow_refusals import DELAY_S, LONGEST_S, Turns, refuse_slowly


def test_refusals_of_one_address_follow_each_other_and_hold_up_no_other() -> None:
    now = 100.0
    turns = Turns(clock=lambda: now)
    assert [round(turns.wait_s("192.0.2.7"), 6) for _ in range(3)] == [1.0, 1.2, 1.4]
    assert turns.wait_s("192.0.2.8") == DELAY_S
    now += 60
    assert turns.wait_s("192.0.2.7") == DELAY_S


def test_no_connection_is_held_for_long() -> None:
    turns = Turns(clock=lambda: 100.0)
    assert max(turns.wait_s("192.0.2.7") for _ in range(1000)) == LONGEST_S


@pytest.mark.parametrize("status", [200, 302, 403, 429])
def test_refusals_alone_wait(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    sent: list[dict[str, Any]] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {}

    # Not `asyncio.sleep` itself: a thread of another test may still retry its connection with it.
    monkeypatch.setattr(slow_refusals, "asyncio", SimpleNamespace(sleep=sleep))
    asyncio.run(refuse_slowly(application)({"client": ("192.0.2.7", 1), "headers": []}, receive, send))
    assert len(waited) == (status == 429)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
