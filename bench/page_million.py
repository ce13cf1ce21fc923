"""A run with 8 series of a million points in a browser: how soon a curve shows, and how soon a zoom is fine.

usage: python bench/page_million.py [--points 1000000]

Embedded server and Daphne; a real Chromium shows the real page. Prints one JSON object as its last line, medians:

first_curve_s  from the navigation until a chart shows its curve, without a cache; of three visits
zoom_ms        from a zoom to a hundredth of the run until the chart shows the finer points of that range; of seven
first_s        the first visit of all, which finds nothing prepared on the portal
series, points
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from bench.portal import visits  # noqa: E402
from bench.portal.feeding import collected_files  # noqa: E402
from tests.support.browser import FLAGS  # noqa: E402
from tests.support.stack import Stack, seed_project, wait_for  # noqa: E402

SERIES = 8
VISITS = 3
ZOOMS = 7
FIRST_MS = 1_700_000_000_000

# From the end of a drag until the chart has drawn the points that it requests for its range.
WATCH_ZOOM = """() => {
    const before = performance.getEntriesByType("resource").length;
    const frame = () => new Promise(requestAnimationFrame);
    const hasFetched = () =>
        performance.getEntriesByType("resource").slice(before).some(({ name }) => name.includes("/points/"));
    window.zoomed = new Promise((resolve) => addEventListener("mouseup", async () => {
        const began = performance.now();
        while (!hasFetched()) await frame();
        // The answer is drawn in the frame that follows.
        await frame();
        await frame();
        resolve(performance.now() - began);
    }, { capture: true, once: true }));
}"""
SHOWS_ALL = "document.querySelector('.zoom-reset').hidden"


def create_long_run(points: int) -> int:
    """Store a run that has ended, with its series as they are once folded; return its id."""
    import numpy as np
    from django.utils import timezone

    from runs.models import Run, RunState
    from runs.series.packing.chunks import Points
    from tests.support.stored_points import store_folded

    now = timezone.now()
    run = Run.objects.create(
        project=seed_project(), name="million", state=RunState.FINISHED, attempt=1, started_at=now, ended_at=now,
        step=points,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    steps = np.arange(1, points + 1, dtype=np.int64)
    for number in range(SERIES):
        values = np.exp(-steps / points) + 0.1 * generator.standard_normal(points)
        store_folded(run, f"train/series_{number}", Points(steps, FIRST_MS + 10 * steps, values.astype(np.float64)))
    return run.pk


def zoom_ms(page: Page) -> float:
    """Drag over a hundredth of the first chart, at several places; return the median of the waits."""
    box = page.locator("[data-testid=chart] .u-over").first.bounding_box()
    assert box is not None
    times = []
    for number in range(ZOOMS):
        left, middle = box["x"] + (number + 1) * box["width"] / (ZOOMS + 2), box["y"] + box["height"] / 2
        page.evaluate(WATCH_ZOOM)
        page.mouse.move(left, middle)
        page.mouse.down()
        page.mouse.move(left + max(5, box["width"] / 100), middle, steps=3)
        page.mouse.up()
        times.append(page.evaluate("window.zoomed"))
        page.keyboard.press("z")
        wait_for(lambda: page.evaluate(SHOWS_ALL), "the whole chart")
    found: float = statistics.median(times)
    return found


def look(browser: Browser, portal: str, run_id: int) -> dict[str, Any]:
    cookies = visits.cookies_of(browser, portal)
    address = f"{portal}/runs/{run_id}/"

    def visit() -> visits.Visit:
        with visits.first_visit(browser, address, visits.CURVE_OF_STEERSMAN, cookies) as (page, traffic):
            return visits.visit_of(page, traffic)

    first = visit()
    later = visits.median_visit(visit, VISITS)
    with visits.first_visit(browser, address, visits.CURVE_OF_STEERSMAN, cookies) as (page, _):
        page.wait_for_selector("[data-testid=link][data-link=live]", state="attached")
        page.wait_for_load_state("networkidle")
        return {
            "first_curve_s": round(later.first_curve_s, 3),
            "zoom_ms": round(zoom_ms(page)),
            "first_s": round(first.first_curve_s, 3),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10**6)
    points = parser.parse_args().points
    # Playwright runs an event loop in this thread, where Django would refuse to ask the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with Stack() as stack, collected_files(stack), sync_playwright() as playwright:
        stack.migrate()
        stack.use()
        print(f"storing {SERIES} series of {points} points", file=sys.stderr)
        run_id = create_long_run(points)
        stack.start_redis()
        stack.start_web()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        result = look(browser, stack.address, run_id)
        browser.close()
    print(json.dumps(result | {"series": SERIES, "points": points}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
