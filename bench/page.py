"""The page of a live run in a browser: how soon it shows a curve, what it costs, and whether anything moves.

usage: python bench/page.py [--updates 864000]

Embedded server, Daphne and processes that append ten updates per second as a supervisor would; a real Chromium shows
the real page. Prints one JSON object as its last line:

main_thread_ms_per_s     busy with 16 charts, all in sight; cpu_ms_per_s of it on a processor, which other loads on the
                         machine do not change
main_thread_ms_per_s_300 busy with a run of 300 series in a window of 1,280 × 900, and cpu_ms_per_s_300
window_ms_per_s          busy with 16 charts in that window, and window_cpu_ms_per_s
charts, charts_in_window, updates_per_s (frames of points that arrived), points (a chart, at the end)
heap_growth_mb           the heap after the updates of a day, ten per second, over the heap before
day_updates              how many those were
first_paint_s, first_curve_s, kb_transferred, requests
                         of a visit without a cache, on a laptop's screen of 1,366 × 768; medians of three
cls                      the sum of all shifts of the layout until the page is live, an alert has come and tags changed
first_chart_px           where the first chart begins on that screen
vs_tensorboard_first_curve  first_curve_s over that of TensorBoard with the same series; null if it is not installed
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright  # noqa: E402

from bench.portal import day_played, in_tensorboard, visits  # noqa: E402
from bench.portal.feeding import collected_files, create_live_run, fed  # noqa: E402
from tests.support.browser import FLAGS, log_in  # noqa: E402
from tests.support.stack import Stack, seed_project, wait_for  # noqa: E402

CHARTS = 16
MANY = 300
SECONDS = 12
# The first frames after loading build the charts, which happens once, so they do not count.
SETTLE_S = 4
VISITS = 3
ALL_IN_SIGHT = {"width": 1920, "height": 2400}
WINDOW = {"width": 1280, "height": 900}
# So long the page is watched for shifts, before and after the alert and the tag.
WATCHED_MS = 3000
LIVE = "[data-testid=link][data-link=live]"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    say(", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    return found


def open_page(browser: Browser, address: str, run_id: int) -> tuple[Page, CDPSession, list[str]]:
    """Return the page of a run, large enough for all charts, and the frames of points that arrive from now on."""
    page = browser.new_context(viewport=ALL_IN_SIGHT).new_page()  # type: ignore[arg-type]
    page.add_init_script(day_played.KEEP_SOCKET)
    frames: list[str] = []

    def hear(payload: str | bytes) -> None:
        if isinstance(payload, str) and '"kind":"metrics"' in payload:
            frames.append("metrics")

    page.on("websocket", lambda socket: socket.on("framereceived", hear))
    log_in(page, address, "operator", "operator")
    page.goto(f"{address}/runs/{run_id}/")
    page.wait_for_selector("[data-testid=chart] canvas")
    page.wait_for_selector(LIVE, state="attached")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    return page, devtools, frames


def look_at_charts(stack: Stack, browser: Browser, run_id: int, updates: int) -> dict[str, Any]:
    """Measure the load of 16 charts, in sight at once and in a window, and the memory of a day."""
    with fed(stack, run_id, CHARTS):
        page, devtools, frames = open_page(browser, stack.address, run_id)
        charts = page.locator("[data-testid=chart]")
        wait_for(lambda: charts.count() == CHARTS, "the charts", timeout_s=30)
        everything = measure(page, devtools, frames, ALL_IN_SIGHT)
        if everything["charts"] < CHARTS:
            raise SystemExit(f"only {everything['charts']} of {CHARTS} charts fit into {ALL_IN_SIGHT}")
        window = measure(page, devtools, frames, WINDOW)
        points = int(charts.first.get_attribute("data-points") or 0)
        page.set_viewport_size(ALL_IN_SIGHT)  # type: ignore[arg-type]
        page.wait_for_timeout(SETTLE_S * 1000)
    say("the updates of a day")
    growth_mb = day_played.play_day(page, updates)
    page.context.close()
    return {
        "main_thread_ms_per_s": round(everything["busy"]),
        "cpu_ms_per_s": round(everything["cpu"]),
        "window_ms_per_s": round(window["busy"]),
        "window_cpu_ms_per_s": round(window["cpu"]),
        "charts": CHARTS,
        "charts_in_window": int(window["charts"]),
        "updates_per_s": round(everything["updates"], 1),
        "points": points,
        "heap_growth_mb": round(growth_mb, 1),
        "day_updates": updates,
    }


def look_at_many(stack: Stack, browser: Browser, run_id: int) -> dict[str, Any]:
    """Measure the load of a run with `MANY` series."""
    with fed(stack, run_id, MANY):
        page, devtools, frames = open_page(browser, stack.address, run_id)
        found = measure(page, devtools, frames, WINDOW)
        page.context.close()
    return {"main_thread_ms_per_s_300": round(found["busy"]), "cpu_ms_per_s_300": round(found["cpu"])}


def look_at_visits(stack: Stack, browser: Browser, run_id: int) -> dict[str, Any]:
    """Measure visits without a cache: times, traffic, and what moves; and TensorBoard beside them."""
    address = f"{stack.address}/runs/{run_id}/"
    cookies = visits.cookies_of(browser, stack.address)

    def visit() -> visits.Visit:
        with visits.first_visit(browser, address, visits.CURVE_OF_STEERSMAN, cookies) as (page, traffic):
            page.wait_for_selector(LIVE, state="attached")
            page.wait_for_load_state("networkidle")
            return visits.visit_of(page, traffic)

    with fed(stack, run_id, CHARTS):
        ours = visits.median_visit(visit, VISITS)
        moved, first_chart = watch_shifts(browser, address, cookies, run_id)
    return {
        "first_paint_s": round(ours.first_paint_s, 3),
        "first_curve_s": round(ours.first_curve_s, 3),
        "kb_transferred": round(ours.kb),
        "requests": ours.requests,
        "cls": round(moved, 4),
        "first_chart_px": first_chart,
        "vs_tensorboard_first_curve": compared(browser, ours.first_curve_s),
    }


def watch_shifts(browser: Browser, address: str, cookies: list[Any], run_id: int) -> tuple[float, int]:
    """Return the sum of the shifts until the page is live, an alert has come and tags changed; and the first chart."""
    from django.utils import timezone

    from runs.curation.tags import change_tags
    from runs.models import Alert, alert_as_wire
    from runs.protocol.events import AlertChanged
    from runs.recording import feed

    with visits.first_visit(browser, address, visits.CURVE_OF_STEERSMAN, cookies) as (page, _):
        page.wait_for_selector(LIVE, state="attached")
        page.wait_for_timeout(WATCHED_MS)
        first_chart = page.evaluate("document.querySelector('[data-testid=chart]').getBoundingClientRect().top")
        alert = Alert.objects.create(
            run_id=run_id, attempt=1, detector="spike", series="train/series_00", severity="critical", title="Spike",
            step=100, began_at=timezone.now(), value=9.5, usual="0.31 ± 0.02",
        )  # fmt: skip
        feed.append(run_id, AlertChanged(**alert_as_wire(alert)))
        page.wait_for_selector("[data-testid=alert-banner]", state="visible")
        change_tags(run_id, add=["baseline", "a tag of some length"])
        page.wait_for_timeout(WATCHED_MS)
        return visits.shift_of(page), round(first_chart)


def compared(browser: Browser, ours_s: float) -> float | None:
    if not in_tensorboard.is_installed():
        say("TensorBoard is not installed: pip install tensorboard")
        return None

    def visit() -> visits.Visit:
        with visits.first_visit(browser, address, visits.CURVE_OF_TENSORBOARD, []) as (page, traffic):
            return visits.visit_of(page, traffic)

    with in_tensorboard.tensorboard(CHARTS) as address:
        theirs = visits.median_visit(visit, VISITS)
    say(f"TensorBoard: first curve after {theirs.first_curve_s:.2f} s, {theirs.kb:.0f} kB")
    return round(ours_s / theirs.first_curve_s, 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=day_played.DAY)
    arguments = parser.parse_args()
    # Playwright runs an event loop in this thread, where Django would refuse to ask the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with Stack() as stack, collected_files(stack), sync_playwright() as playwright:
        say("starting embedded server and Daphne")
        stack.migrate()
        stack.use()
        project = seed_project()
        run, crowd = create_live_run(project, "page", CHARTS), create_live_run(project, "crowd", MANY)
        stack.start_redis()
        stack.start_web()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        result = look_at_visits(stack, browser, run)
        result |= look_at_charts(stack, browser, run, arguments.updates) | look_at_many(stack, browser, crowd)
        browser.close()
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
