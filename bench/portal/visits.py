"""First visits of a page in a browser that has nothing in its cache: times, bytes, and what moved."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page

from tests.support.browser import log_in

LAPTOP = {"width": 1366, "height": 768}

# A shift of the layout that is printed: texts as wide as their values move by less.
WORTH_A_LINE = 0.0005

# A chart says how many points it has drawn, in the frame that draws them.
CURVE_OF_STEERSMAN = """() => {
    const chart = document.querySelector('[data-testid=chart]:not([data-points="0"]) canvas');
    return Boolean(chart?.width); }"""
# TensorBoard draws in a canvas, or in an SVG if the browser has no WebGL; the ticks of its axis come with the data.
CURVE_OF_TENSORBOARD = """() => {
    const chart = document.querySelector("line-chart");
    if (!chart) return false;
    const path = [...chart.querySelectorAll("svg path")].some((each) => (each.getAttribute("d") ?? "").length > 20);
    return path || Boolean(chart.querySelector("canvas") && chart.querySelector("line-chart-axis text")); }"""

# Runs before the scripts of a page: notes the shifts of its layout, and the time of the first curve.
WATCH = """(() => {
    const hasCurve = %s;
    let drawn;
    window.seen = { shifts: [], curve: new Promise((resolve) => (drawn = resolve)) };
    new PerformanceObserver((list) => {
        for (const shift of list.getEntries()) {
            const moved = shift.sources.map(({ node }) => node?.id || node?.className || node?.nodeName);
            window.seen.shifts.push({ at: shift.startTime, value: shift.value, moved: moved.join(", ") });
        }
    }).observe({ type: "layout-shift", buffered: true });
    const look = () => {
        if (hasCurve()) drawn(performance.now());
        else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
})()"""


@dataclass
class Traffic:
    """What was requested over HTTP: the number of requests, and the bytes of the answers as they were sent."""

    requests: int = 0
    bytes: int = 0

    def follow(self, devtools: CDPSession) -> None:
        devtools.on("Network.requestWillBeSent", self._sent)
        devtools.on("Network.loadingFinished", self._finished)
        devtools.send("Network.enable")

    def _sent(self, event: dict[str, Any]) -> None:
        if not event["request"]["url"].startswith("data:"):
            self.requests += 1

    def _finished(self, event: dict[str, Any]) -> None:
        self.bytes += event["encodedDataLength"]


@dataclass(frozen=True, slots=True)
class Visit:
    """Seconds since the navigation began, kilobytes and requests of a first visit."""

    first_paint_s: float
    first_curve_s: float
    kb: float
    requests: int


def cookies_of(browser: Browser, address: str) -> list[Any]:
    """Return the cookies of the operator's session."""
    context = browser.new_context()
    log_in(context.new_page(), address, "operator", "operator")
    cookies: list[Any] = context.cookies()
    context.close()
    return cookies


@contextmanager
def first_visit(browser: Browser, address: str, curve: str, cookies: Sequence[Any]) -> Iterator[tuple[Page, Traffic]]:
    """Open `address` without a cache and wait for its first curve; yield the page and what it requested."""
    context = browser.new_context(viewport=LAPTOP, locale="en-GB")  # type: ignore[arg-type]
    context.add_cookies(list(cookies))
    page = context.new_page()
    page.add_init_script(WATCH % curve)
    traffic = Traffic()
    traffic.follow(context.new_cdp_session(page))
    try:
        page.goto(address, wait_until="commit")
        page.evaluate("window.seen.curve")
        yield page, traffic
    finally:
        context.close()


def visit_of(page: Page, traffic: Traffic) -> Visit:
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
    curve = page.evaluate("window.seen.curve")
    return Visit(paint / 1000, curve / 1000, traffic.bytes / 1024, traffic.requests)


def shift_of(page: Page) -> float:
    """Return the sum of all shifts of the layout so far; print what moved."""
    total = 0.0
    for shift in page.evaluate("window.seen.shifts"):
        total += shift["value"]
        if shift["value"] >= WORTH_A_LINE:
            print(f"shift {shift['value']:.4f} at {shift['at']:.0f} ms: {shift['moved']}", file=sys.stderr)
    return total


def median_visit(visit: Callable[[], Visit], times: int) -> Visit:
    """Return the median of each figure over this many visits."""
    visits = [visit() for _ in range(times)]
    return Visit(
        statistics.median(each.first_paint_s for each in visits),
        statistics.median(each.first_curve_s for each in visits),
        statistics.median(each.kb for each in visits),
        round(statistics.median(each.requests for each in visits)),
    )
