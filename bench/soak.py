"""Measure delays, memory and disconnections while many viewers watch for minutes and some of them stop reading.

usage: python bench/soak.py [--seconds 240] [--viewers 1000] [--deflate]

Viewers connect by two share links. Of the stalled viewers, which never read after the greeting, 25 are silent and 25
send a `ping` every 2 s. A publisher appends five events of about 500 bytes per second, and every 10 s a large one of
100 KB, which `runs.protocol.event_parts` divides into two. The portal has one core; viewers, Redis and publisher share
another. Prints one JSON object as its last line:
p99_ms        appended → received by viewers who read, except in the second after a large event (aim: 300)
large_p99_ms  the same for the large events and those in the second after them
growth_mb     highest memory of the web process minus its memory after all greetings, MiB of 2**20 bytes (aim: 60)
cut_s         longest time from the last read of a stalled viewer to its disconnection; null if one stayed (aim: 15)
silent_cut_s, sending_cut_s  the same for each kind
not_cut       stalled viewers that were still connected at the end
wrongly_cut   viewers who read and were disconnected (aim: 0)
missed        events that a viewer who read did not receive
web_busy, crowd_busy  CPU seconds per second of the portal and of the viewers; where crowd_busy approaches 1, this bench
              causes part of the delays
crowd_late_s  longest time without a read, because others used the viewers' core; above 5 s the server is right to
              disconnect viewers, and the result is not valid
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import time
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.support.processes import cpu_s  # noqa: E402
from bench.support.viewers import Crowd, Viewer  # noqa: E402
from tests.support.stack import Stack, run_row, seed_project  # noqa: E402

LINKS = 2
STALLED_OF_EACH_KIND = 25
# The smallest buffer that the system accepts: the server must soon buffer the messages for a stalled viewer.
STALLED_BUFFER_BYTES = 2048
STALLED_SAYS, SAYS_EVERY_S = '{"kind":"ping"}', 2.0
EVENT_EVERY_S = 0.2
LARGE_EVERY_S = 10.0
# Series of one step each: about 500 bytes, and about 100 KB.
SMALL_SERIES, LARGE_SERIES = 11, 2_900
LARGE_AFFECTS_S = 1.0
# Events of this first time do not count.
WARMS_UP = 1.0
LAST_EVENTS_S = 5.0
LOOK_EVERY_S = 0.25
TARGET = "/ws/runs/{run}/?token={key}"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NUMBER = re.compile(rb'"seq":(\d+)')
APPENDED = re.compile(rb'"times":\[([\d.]+)')


class Delays:
    """Records when each event was appended, and how late every viewer received it."""

    def __init__(self) -> None:
        self.appended: dict[int, float] = {}
        self.large: set[int] = set()
        self._late: dict[int, array[float]] = {}

    def note(self, viewer: Viewer, text: bytes, came_at: float) -> None:
        """Record a frame: one event, or several in an array."""
        if text.startswith(b"["):
            for part in msgspec.json.decode(text, type=list[msgspec.Raw]):
                self._note(bytes(part), came_at)
        else:
            self._note(text, came_at)

    def _note(self, text: bytes, came_at: float) -> None:
        head = text[:64]
        if not head.startswith(b'{"seq":') or b'"metrics"' not in head:
            return
        if b'"first_seq"' in head:
            self._note_merged(text, came_at)
            return
        number = NUMBER.search(head)
        assert number is not None
        seq = int(number.group(1))
        late = self._late.get(seq)
        if late is None:
            moment = APPENDED.search(text)
            assert moment is not None
            self.appended[seq] = float(moment.group(1))
            late = self._late[seq] = array("d")
        if len(text) > 10_000:
            self.large.add(seq)
        late.append(came_at - self.appended[seq])

    def _note_merged(self, text: bytes, came_at: float) -> None:
        """Record several events that arrived merged, which other viewers received one by one."""
        times = {seq: time for block in msgspec.json.decode(text)["blocks"]
                 for seq, time in zip(block["seqs"], block["times"], strict=True)}  # fmt: skip
        for seq, appended in times.items():
            self.appended[seq] = appended
            self._late.setdefault(seq, array("d")).append(came_at - appended)

    def received(self) -> int:
        return sum(map(len, self._late.values()))

    def p99_ms(self, of_large: bool) -> float | None:
        """Return the 99th percentile of the events that a large one affects, or of the others."""
        large = [self.appended[seq] for seq in self.large]
        chosen = [
            late
            for seq, delays in self._late.items()
            if self.appended[seq] != WARMS_UP
            and any(0 <= self.appended[seq] - moment < LARGE_AFFECTS_S for moment in large) == of_large
            for late in delays
        ]
        return round(sorted(chosen)[int(0.99 * (len(chosen) - 1))] * 1000, 1) if chosen else None


def publish(run_id: int, seconds: float) -> None:
    """Append events for `seconds`; print the number of the last one."""
    import django

    django.setup()
    from runs.protocol.events import Block, Metrics, iso
    from runs.recording import announcer, feed

    def event(step: int, series: int, moment: float) -> Metrics:
        from django.utils import timezone

        values: dict[str, list[float | None]] = {f"layer/{index:04d}/gradient_norm": [0.123] for index in range(series)}
        block = Block(steps=[step], times=[moment], values=values)
        return Metrics(attempt=1, step=step, last_point_at=iso(timezone.now()), blocks=[block])

    # The first event opens the database and the channel layer.
    feed.append(run_id, event(0, SMALL_SERIES, WARMS_UP))
    announcer.current().flush(5)
    began, step, last = time.monotonic(), 0, 0
    next_large = LARGE_EVERY_S / 2
    while (now := time.monotonic() - began) < seconds:
        step += 1
        last = feed.append(run_id, event(step, SMALL_SERIES, time.time()))
        if now >= next_large:
            next_large += LARGE_EVERY_S
            last = feed.append(run_id, event(step, LARGE_SERIES, time.time()))
        time.sleep(max(0.0, step * EVENT_EVERY_S - (time.monotonic() - began)))
    announcer.current().flush(5)
    print(last)


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / (1 << 20)


def share_keys(run_id: int) -> list[str]:
    from django.contrib.auth.models import User

    from runs.access.tokens import create_token
    from runs.models import Run, TokenScope

    run, creator = Run.objects.get(pk=run_id), User.objects.get(username="operator")
    return [
        create_token(creator, run.project, TokenScope.SHARE, name=f"hall {number}", run=run)[1]
        for number in range(LINKS)
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def slowest_cut_s(stalled: list[Viewer]) -> float | None:
    if not all(viewer.ended_at for viewer in stalled):
        return None
    return round(max(viewer.ended_at - viewer.read_at for viewer in stalled), 1)


def soak(stack: Stack, run_id: int, keys: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    assert stack.web is not None
    pid, delays = stack.web.pid, Delays()
    stalled_count = min(STALLED_OF_EACH_KIND, arguments.viewers // 4)
    a_link = arguments.viewers // LINKS
    targets = [TARGET.format(run=run_id, key=key) for key in keys]
    with Crowd(stack.port, delays.note, arguments.deflate) as crowd:
        reading: list[Viewer] = []
        stalled: list[Viewer] = []
        for target in targets:
            stalled += crowd.connect(target, stalled_count, STALLED_BUFFER_BYTES)
            reading += crowd.connect(target, a_link - stalled_count)
        say(f"{len(crowd.viewers)} viewers are greeted")
        silent, sending = stalled[:stalled_count], stalled[stalled_count:]
        crowd.pump(1.0)
        before_mb = most_mb = resident_mb(pid)
        crowd.stall(stalled)
        publisher = subprocess.Popen(
            [sys.executable, __file__, "--publish", str(run_id), "--seconds", str(arguments.seconds)],
            env=stack.environment | {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"},
            stdout=subprocess.PIPE,
            text=True,
        )
        gc.freeze()
        gc.disable()
        ends_at = speaks_at = 0.0
        crowd_late_s, looked_at = 0.0, time.monotonic()
        began, web_s, crowd_s = time.monotonic(), cpu_s(pid), time.process_time()
        while not ends_at or time.monotonic() < ends_at:
            crowd.pump(LOOK_EVERY_S)
            now = time.monotonic()
            crowd_late_s, looked_at = max(crowd_late_s, now - looked_at - LOOK_EVERY_S), now
            most_mb = max(most_mb, resident_mb(pid))
            if time.monotonic() >= speaks_at:
                speaks_at = time.monotonic() + SAYS_EVERY_S
                for viewer in sending:
                    crowd.say(viewer, STALLED_SAYS)
            if not ends_at and publisher.poll() is not None:
                ends_at = time.monotonic() + LAST_EVENTS_S
        took_s = time.monotonic() - began
        web_s, crowd_s = cpu_s(pid) - web_s, time.process_time() - crowd_s
        last_seq = run_row(stack, run_id)["last_seq"]
        assert publisher.returncode == 0 and publisher.stdout is not None
        publisher.stdout.close()
        cut = [viewer for viewer in reading if viewer.ended_at]
        say(f"cut while they read: {Counter((viewer.code, viewer.reason) for viewer in cut)}")
        say(f"cut while they stalled: {Counter((viewer.code, viewer.reason) for viewer in stalled if viewer.ended_at)}")
        return {
            "p99_ms": delays.p99_ms(of_large=False),
            "large_p99_ms": delays.p99_ms(of_large=True),
            "growth_mb": round(most_mb - before_mb, 1),
            "cut_s": slowest_cut_s(stalled),
            "silent_cut_s": slowest_cut_s(silent),
            "sending_cut_s": slowest_cut_s(sending),
            "not_cut": sum(not viewer.ended_at for viewer in stalled),
            "wrongly_cut": len(cut),
            "missed": max(0, last_seq * len(reading) - delays.received()),
            "viewers": len(crowd.viewers),
            "events": last_seq,
            "large_parts": len(delays.large),
            "deliveries": delays.received(),
            "web_busy": round(web_s / took_s, 2),
            "crowd_busy": round(crowd_s / took_s, 2),
            "crowd_late_s": round(crowd_late_s, 2),
            "rss_mb": round(before_mb, 1),
            "seconds": arguments.seconds,
        }


def start_web_alone(stack: Stack) -> None:
    """Start the portal on one core; this process, and processes that it starts later, keep the others."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])
    stack.start_web()
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--deflate", action="store_true", help="viewers offer permessage-deflate, as browsers do")
    parser.add_argument("--publish", type=int, metavar="RUN", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        publish(arguments.publish, arguments.seconds)
        return 0
    with Stack() as stack:
        say("starting embedded server and Daphne")
        stack.migrate()
        stack.use()
        from runs.models import Run

        run = Run.objects.create(project=seed_project(), name="soak", state="running", attempt=1)
        keys = share_keys(run.pk)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[1:2] or cores)
        stack.start_redis()
        os.sched_setaffinity(0, cores)
        start_web_alone(stack)
        result = soak(stack, run.pk, keys, arguments)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
