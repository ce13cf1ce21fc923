"""A viewer who reads slowly on the real server: waiting metrics are merged, with the same content in fewer bytes."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.live.test_page_state import differences
from tests.serving.test_socket_wire import RawViewer, counts, portal, token_of, wait_for_greeting
from tests.support.stack import Stack, create_run, rows
from tests.support.watcher import separated

# Together more than all buffers can take, and less than a viewer may be behind.
EVENTS, SERIES, NAME_CHARACTERS = 400, 16, 180
NAMES = [f"layers/{number}/".ljust(NAME_CHARACTERS, "x") for number in range(SERIES)]
PROGRAM = """
from array import array
from random import Random
from runs.models import Run
from runs.protocol.events import Block
from runs.recording import feed
from runs.series import storage
from runs.series.float32 import with_few_digits
from tests.support.stored_points import metrics_event
chance = Random(1)
for step in range(1, {events} + 1):
    values = {{name: array("f", [chance.random()]).tolist() for name in {names}}}
    event = metrics_event([with_few_digits(Block(steps=[step], times=[float(step)], values=values))])
    feed.append({run}, event)
storage.update_latest({run}, [event])
Run.objects.filter(pk={run}).update(step=step, last_point_at=event.last_point_at)
"""


def read(viewer: RawViewer, last: int) -> tuple[int, list[dict[str, Any]]]:
    """Return the bytes of all frames up to the one with event `last`, and their messages."""
    taken, told, before = 0, [], b""
    for payload, message in viewer.messages():
        # The messages of one frame share the same object.
        taken += len(payload) if payload is not before else 0
        before = payload
        told.append(message)
        if message.get("seq", 0) >= last:
            return taken, told
    raise EOFError


def history(stack: Stack, run: int, token: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{stack.address}/api/runs/{run}/history/", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {**json.load(answer), "kind": "history"}


def test_a_slow_reader_gets_merged_metrics_and_holds_what_a_fresh_page_holds(tmp_path: Path) -> None:
    with portal() as stack:
        run, token = create_run(stack, "slow"), token_of(stack)
        before = history(stack, run, token)
        quick, slow = RawViewer(stack.port, run, token), RawViewer(stack.port, run, token)
        wait_for_greeting(quick)
        hello = next(slow.messages())[1]
        stack.manage("shell", "-v", "0", "-c", PROGRAM.format(events=EVENTS, names=NAMES, run=run), check=True)
        stored = rows(stack, "SELECT frame FROM runs_storedevent WHERE run_id = ? ORDER BY seq", run)
        frames = [row["frame"] for row in stored]
        # When one viewer has the last event, it was also sent to the other, which has read nothing yet.
        read(quick, EVENTS)
        taken, told = read(slow, EVENTS)
        assert counts(stack)[1], "nothing waited: the test shows nothing"
        # Messages without a number, such as the one on the state of the link, are not stored.
        numbered = [event for message in told if "seq" in message for event in separated(message)]
        assert [event["seq"] for event in numbered] == list(range(1, EVENTS + 1))
        # Frames that were sent directly have their stored size. If the others were only joined, their size would not
        # shrink.
        waited = [range(message["first_seq"], message["seq"] + 1) for message in told if "first_seq" in message]
        waited_bytes = sum(len(frames[seq - 1]) for span in waited for seq in span)
        assert waited and taken < sum(map(len, frames)) - 0.8 * waited_bytes
        fresh = RawViewer(stack.port, run, token)
        end = {"seq": EVENTS, "history": history(stack, run, token), "hello": next(fresh.messages())[1]}
        story = {
            "name": "slow",
            "cuts": [{"seq": 0, "history": before, "hello": hello}, end],
            "frames": list(map(json.loads, frames)),
            "pages": [{"name": "slow", "told": [before, hello, *told]}],
        }
        assert differences([story], tmp_path) == []
        for viewer in (quick, slow, fresh):
            viewer.socket.close()
