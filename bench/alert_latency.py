"""Measure the time from logging a bad point to the message in a mail server and at a webhook, with real processes.

usage: python bench/alert_latency.py [ALERTS]

A training logs 100 series; every second one becomes NaN, which raises an alert. After 40 alerts the mail server is
killed with SIGKILL and started again 8 s later. Prints one JSON object as its last line:
alerts       number of alerts; each is sent to the mail server and to the webhook
p50_s, p95_s time from logging a point to receiving its message, by mail or webhook, except for delayed mails
delayed      mails that the outage delayed
undelivered  alerts that the mail server or the webhook did not receive
doubled      alerts that one of them received in more than one message
messages     messages that contain these alerts
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.stack import Stack, create_run, free_port, seed_stack, wait_for  # noqa: E402
from tests.support.telling.fake_senders import HttpServer  # noqa: E402
from tests.support.telling.scene import INSIDE, add_destination  # noqa: E402

ALERTS = 100
PAUSE_S = 1.0
OUTAGE_S = 8.0
PATIENCE_S = 90.0
# The outage also delays a message that was being sent when the server was killed.
UNDER_WAY_S = 5.0
SUPPORT = Path(__file__).resolve().parent / "support"
TOLD = re.compile(r"signal/(\d+)\b")
Received = list[tuple[float, set[int]]]


class Sink:
    """Runs the mail server as a process."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.file = folder / "mails.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.file.open("ab") as out:
            command = [sys.executable, str(SUPPORT / "mail_sink.py"), str(self.port)]
            self._process = subprocess.Popen(command, stdout=out)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def received(self) -> Received:
        mails = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [(mail["at"], numbers(mail["text"])) for mail in mails]


def numbers(text: str) -> set[int]:
    return {int(found) for found in TOLD.findall(text)}


def posted(webhook: HttpServer) -> Received:
    return [(at, numbers(body.decode())) for at, _, _, body in webhook.requests]


def logged(path: Path) -> dict[int, float]:
    if not path.exists():
        return {}
    return {row["number"]: row["at"] for row in map(json.loads, path.read_text().splitlines())}


def measure(stack: Stack, alerts: int) -> dict[str, float | int]:
    sink, webhook = Sink(stack.folder), HttpServer()
    sink.start()
    webhook.start()
    stack.environment |= INSIDE | {"STEERSMAN_EMAIL_URL": f"smtp://127.0.0.1:{sink.port}"}
    add_destination(stack, "mail", "somebody@example.org")
    add_destination(stack, "service", f"json://127.0.0.1:{webhook.port}/")
    moments = stack.folder / "moments.jsonl"
    with (stack.folder / "watch.log").open("ab") as log:
        watch = subprocess.Popen(stack.command("watch"), env=stack.environment, stdout=log, stderr=log)
    try:
        script = (str(SUPPORT / "failing_series.py"), str(moments), str(alerts), str(PAUSE_S))
        stack.train(create_run(stack), "--quiet", "--", *script)
        wait_for(
            lambda: len(logged(moments)) >= alerts * 2 // 5, f"alerts\n{stack.log()}", alerts * PAUSE_S + PATIENCE_S
        )
        sink.kill()
        killed_at = time.time()
        time.sleep(OUTAGE_S)
        sink.start()
        wait_for(lambda: len(logged(moments)) == alerts, f"all alerts\n{stack.log()}", alerts * PAUSE_S + PATIENCE_S)
        until = time.monotonic() + PATIENCE_S
        everything = set(range(alerts))
        while time.monotonic() < until and not all(
            set().union(*(told for _, told in way)) >= everything for way in (sink.received(), posted(webhook))
        ):
            time.sleep(0.2)
        # Wait for a second, unwanted delivery.
        time.sleep(5)
        return figures(logged(moments), sink.received(), posted(webhook), killed_at)
    finally:
        watch.terminate()
        watch.wait()
        sink.kill()
        webhook.stop()


def figures(at: dict[int, float], mails: Received, posts: Received, killed_at: float) -> dict[str, float | int]:
    """Compute the figures from the points logged `at` and the messages in `mails` and `posts`."""
    back_at = min((moment for moment, _ in mails if moment > killed_at), default=killed_at)
    delays: list[float] = []
    delayed = undelivered = doubled = 0
    for way in (mails, posts):
        for number, begun in at.items():
            got = [moment for moment, told in way if number in told]
            undelivered += not got
            doubled += len(got) > 1
            if way is mails and killed_at - UNDER_WAY_S <= begun <= back_at + UNDER_WAY_S:
                delayed += 1
            elif got:
                delays.append(got[0] - begun)
    percentiles = statistics.quantiles(delays, n=100)
    return {
        "alerts": len(at),
        "p50_s": round(percentiles[49], 2),
        "p95_s": round(percentiles[94], 2),
        "delayed": delayed,
        "undelivered": undelivered,
        "doubled": doubled,
        "messages": len(mails) + len(posts),
    }


def main() -> int:
    alerts = int(sys.argv[1]) if len(sys.argv) > 1 else ALERTS
    with Stack() as stack:
        print(f"{alerts} alerts", file=sys.stderr)
        seed_stack(stack)
        print(json.dumps(measure(stack, alerts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
