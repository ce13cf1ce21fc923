"""Measure the network traffic per viewer: 16 and 300 series at 10 updates per second, with real processes.

usage: python bench/costs/bytes.py [--seconds 20]

Counts the bytes that viewers read from their sockets: WebSocket headers, samples of the machine and pings too. Prints
one JSON object as its last line:
kb_per_s_deflate        a single viewer with permessage-deflate, as browsers offer it
kb_per_s_by_itself      a single viewer whose messages are each compressed independently
kb_per_s_plain          a single viewer without compression
kb_per_s_crowd_deflate  one of 320 viewers with permessage-deflate; the server sends a crowd two events in one frame
events_per_s            events that the single viewer received
kb_per_s_many_deflate   a single viewer of 300 series with permessage-deflate
kb_per_s_many_in_sight  the same where 8 of the 300 series are in sight
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.support.viewers import Crowd, Viewer, metrics_events_in  # noqa: E402
from tests.support.stack import ROOT, Stack, create_run, events, seed_stack, wait_for  # noqa: E402

WORKER = ROOT / "bench" / "support" / "many_series.py"
UPDATES_PER_S = 10
CROWD = 320
SERIES, MANY_SERIES = 16, 300
IN_SIGHT = [f"layers/{layer}/weight_norm" for layer in range(8)]
# The first events contain plan and status, and a worker starts in this time.
WARM_UP_S = 5.0
STARTS_WITHIN_S = 60.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Counted:
    """Collects the events that one viewer received."""

    def __init__(self) -> None:
        self.events = 0

    def note(self, viewer: Viewer, text: bytes, came_at: float) -> None:
        self.events += metrics_events_in(text)


def kb_per_s(crowd: Crowd, viewer: Viewer, seconds: float) -> float:
    """Return what `viewer` reads in `seconds`, in thousands of bytes per second."""
    before = viewer.bytes_read
    crowd.pump(seconds)
    if viewer.ended_at:
        raise ConnectionError(f"the viewer was cut: {viewer.code} {viewer.reason}")
    return round((viewer.bytes_read - before) / seconds / 1000, 2)


def start(stack: Stack, series: int, seconds: float) -> str:
    """Start a training with `series` series; return the target of a guest's socket."""
    run_id = create_run(stack, f"bytes of {series}", total_epochs=1)
    key = stack.manage(
        "create_token", "--project", "lab", "--user", "operator", "--scope", "share", "--run", str(run_id), check=True
    ).stdout.strip()
    stack.train(run_id, "--quiet", "--", str(WORKER), str(UPDATES_PER_S), str(seconds), str(series))
    wait_for(lambda: events(stack, run_id, "metrics"), "the first points", STARTS_WITHIN_S)
    return f"/ws/runs/{run_id}/?token={key}"


def measure_many(stack: Stack, seconds: float) -> dict[str, float]:
    target = start(stack, MANY_SERIES, 2 * seconds + 30)
    figures = {}
    with Crowd(stack.port, lambda viewer, text, came_at: None, remembers=True) as lone:
        viewer = lone.connect(target, 1)[0]
        lone.pump(WARM_UP_S)
        figures["kb_per_s_many_deflate"] = kb_per_s(lone, viewer, seconds)
        lone.say(viewer, json.dumps({"kind": "sight", "series": IN_SIGHT}))
        lone.pump(WARM_UP_S)
        figures["kb_per_s_many_in_sight"] = kb_per_s(lone, viewer, seconds)
    return figures


def measure(stack: Stack, seconds: float) -> dict[str, float]:
    # Long enough for both measurements and for connecting a crowd.
    target = start(stack, SERIES, 4 * seconds + 60)
    counted = Counted()
    figures: dict[str, float] = {}
    for name, deflate, remembers in (
        ("kb_per_s_deflate", True, True),
        ("kb_per_s_by_itself", True, False),
        ("kb_per_s_plain", False, False),
    ):
        with Crowd(stack.port, counted.note, deflate, remembers) as lone:
            viewer = lone.connect(target, 1)[0]
            lone.pump(WARM_UP_S)
            counted.events = 0
            figures[name] = kb_per_s(lone, viewer, seconds)
            figures["events_per_s"] = round(counted.events / seconds, 1)
    say(f"{CROWD} viewers come")
    with Crowd(stack.port, lambda viewer, text, came_at: None, remembers=True) as crowd:
        viewers = crowd.connect(target, CROWD)
        crowd.pump(WARM_UP_S)
        figures["kb_per_s_crowd_deflate"] = kb_per_s(crowd, viewers[0], seconds)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each kind of viewer is measured")
    arguments = parser.parse_args()
    with Stack() as stack:
        say("starting the portal")
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        few = measure(stack, arguments.seconds)
        say(f"a training of {MANY_SERIES} series")
        print(json.dumps(few | measure_many(stack, arguments.seconds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
