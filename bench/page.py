"""Measure the load of a live run's page on the browser's main thread: 16 charts, ten updates per second.

usage: python bench/page.py

A process appends points as a supervisor would; Chromium shows the page, first with all charts in sight, then in a
window of 1,280 × 900. Prints one JSON object as its last line:
main_thread_ms_per_s  time during which the main thread is busy with all charts in sight
cpu_ms_per_s          the part of it on a processor, which other loads on the machine do not change
window_ms_per_s, window_cpu_ms_per_s  the same in the window
charts, charts_in_window              charts in sight
updates_per_s         frames of points that arrived
points                points per chart at the end
"""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import CDPSession, Page, sync_playwright  # noqa: E402

from tests.support.browser import FLAGS, log_in  # noqa: E402
from tests.support.stack import Stack, seed_project, wait_for  # noqa: E402

CHARTS = 16
HISTORY = 2000
UPDATES_PER_S = 10
POINTS_AN_UPDATE = 5
SECONDS = 12
# The first frames after loading build the charts, which happens once, so they do not count.
SETTLE_S = 4
ALL_IN_SIGHT = {"width": 1920, "height": 2400}
WINDOW = {"width": 1280, "height": 900}


def block(first: int, count: int, now: float) -> Any:
    from runs.protocol.events import Block
    from tests.support.stored_points import metrics_event

    steps = list(range(first, first + count))
    values: dict[str, list[float | None]] = {
        f"train/series_{number:02}": [math.exp(-step / 3000) + random.gauss(0, 0.02) for step in steps]
        for number in range(CHARTS)
    }
    times = [now + place / (UPDATES_PER_S * POINTS_AN_UPDATE) for place in range(count)]
    return metrics_event([Block(steps=steps, times=times, values=values)])


def feed_for_ever(run_id: int) -> None:
    """Append an update each tenth of a second, until this process is killed."""
    import django

    django.setup()
    from runs.recording import feed

    step = HISTORY + 1
    due = time.monotonic()
    while True:
        feed.append(run_id, block(step, POINTS_AN_UPDATE, time.time()))
        step += POINTS_AN_UPDATE
        due += 1 / UPDATES_PER_S
        time.sleep(max(0.0, due - time.monotonic()))


def spent_ms(devtools: CDPSession) -> tuple[float, float]:
    """Return how long the main thread has been busy, and how long it ran on a processor."""
    metrics = {metric["name"]: metric["value"] for metric in devtools.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"] * 1000, metrics["ThreadTime"] * 1000


def in_sight(page: Page) -> int:
    script = """() => [...document.querySelectorAll("[data-testid=chart]")].filter(chart => {
        const { top, bottom } = chart.getBoundingClientRect(); return bottom > 0 && top < innerHeight; }).length"""
    return int(page.evaluate(script))


def measure(page: Page, devtools: CDPSession, frames: list[str], viewport: Any) -> dict[str, float]:
    """Return busy and processor ms per second, frames of points per second, and the number of charts in sight."""
    page.set_viewport_size(viewport)
    page.evaluate("window.scrollTo(0, document.getElementById('charts').offsetTop - 60)")
    page.wait_for_timeout(SETTLE_S * 1000)
    frames.clear()
    (busy, cpu), began = spent_ms(devtools), time.monotonic()
    page.wait_for_timeout(SECONDS * 1000)
    (busy_after, cpu_after), seconds = spent_ms(devtools), time.monotonic() - began
    found = {"busy": (busy_after - busy) / seconds, "cpu": (cpu_after - cpu) / seconds}
    found |= {"updates": len(frames) / seconds, "charts": in_sight(page)}
    print(", ".join(f"{name} {value:.1f}" for name, value in found.items()), file=sys.stderr)
    return found


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "--feed":
        feed_for_ever(int(sys.argv[2]))
    with Stack() as stack:
        print("starting embedded server and Daphne", file=sys.stderr)
        stack.migrate()
        stack.use()
        from django.utils import timezone

        from runs.models import Run, RunState
        from runs.recording import feed
        from runs.series import storage

        now = timezone.now()
        run = Run.objects.create(
            project=seed_project(), name="page", state=RunState.RUNNING, attempt=1, started_at=now, heartbeat_at=now
        )
        history = block(1, HISTORY, time.time() - HISTORY / (UPDATES_PER_S * POINTS_AN_UPDATE))
        feed.append(run.pk, history)
        storage.update_latest(run.pk, [history])
        stack.start_redis()
        stack.start_web()
        command = [sys.executable, __file__, "--feed", str(run.pk)]
        environment = stack.environment | {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"}
        feeder = subprocess.Popen(command, env=environment)
        try:
            result = look(stack.address, run.pk)
        finally:
            feeder.kill()
            feeder.wait()
    print(json.dumps(result))
    return 0


def look(address: str, run_id: int) -> dict[str, float]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_context(viewport=ALL_IN_SIGHT).new_page()  # type: ignore[arg-type]
        frames: list[str] = []

        def hear(payload: str | bytes) -> None:
            if isinstance(payload, str) and '"kind":"metrics"' in payload:
                frames.append("metrics")

        page.on("websocket", lambda socket: socket.on("framereceived", hear))
        log_in(page, address, "operator", "operator")
        page.goto(f"{address}/runs/{run_id}/")
        charts = page.locator("[data-testid=chart]")
        wait_for(lambda: charts.count() == CHARTS, "the charts", timeout_s=30)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")
        everything = measure(page, devtools, frames, ALL_IN_SIGHT)
        if everything["charts"] < CHARTS:
            raise SystemExit(f"only {everything['charts']} of {CHARTS} charts fit into {ALL_IN_SIGHT}")
        window = measure(page, devtools, frames, WINDOW)
        points = int(charts.first.get_attribute("data-points") or 0)
        browser.close()
    return {
        "main_thread_ms_per_s": round(everything["busy"]),
        "cpu_ms_per_s": round(everything["cpu"]),
        "window_ms_per_s": round(window["busy"]),
        "window_cpu_ms_per_s": round(window["cpu"]),
        "charts": CHARTS,
        "charts_in_window": int(window["charts"]),
        "updates_per_s": round(everything["updates"], 1),
        "points": points,
    }


if __name__ == "__main__":
    sys.exit(main())
