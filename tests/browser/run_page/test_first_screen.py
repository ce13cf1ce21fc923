"""What the first screen of a laptop shows, and what moves on it after it was drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import log_in
from tests.support.stack import Stack, create_run, wait_for

IMPORTS = """
from runs.recording.lifecycle import AttemptEnd, Holder, Lease, end_attempt, open_attempt
from runs.models import Attempt
"""
# Shifts of the layout that no input of a person caused; each has what moved.
WATCH_SHIFTS = """window.shifts = []; new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries())
        if (!hadRecentInput) shifts.push([value, ...sources.map(({ node }) => node?.parentElement?.outerHTML)]);
}).observe({ type: "layout-shift" })"""
LAPTOP = {"width": 1366, "height": 768}
LOWEST_TOP = 300


@pytest.fixture
def page(chromium: Browser, stack: Stack) -> Iterator[Page]:
    context = chromium.new_context(locale="en-GB", viewport=LAPTOP)
    page = context.new_page()
    log_in(page, stack.address, "operator", "operator")
    yield page
    context.close()


def test_the_first_chart_begins_in_the_upper_part_of_the_screen(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/runs/{places['live']}/")
    chart = page.get_by_test_id("chart").first
    expect(chart.locator("canvas")).to_be_visible()
    box = chart.bounding_box()
    assert box and box["y"] <= LOWEST_TOP


def test_nothing_moves_when_an_attempt_is_added_and_when_the_run_fails(page: Page, stack: Stack) -> None:
    run = create_run(stack, "moved by nothing")

    def record(code: str) -> None:
        stack.manage("shell", "-v", "0", "-c", f"{IMPORTS}{code}")

    record(f"open_attempt({run}, Holder('host', 'boot', 1), 0, command_line=[])")
    page.goto(f"{stack.address}/runs/{run}/")
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "running")
    expect(page.locator("#charts .blank")).to_be_visible()
    # Text in another font may take more lines.
    page.evaluate("document.fonts.ready.then(() => true)")
    charts = page.locator("#charts")
    before = charts.bounding_box()
    page.evaluate(WATCH_SHIFTS)
    record(f"open_attempt({run}, Holder('host', 'boot', 2), 1, command_line=[])")
    expect(page.get_by_test_id("attempt-choice")).to_be_in_viewport()
    end = "AttemptEnd('failed', 1, '', 'RuntimeError: it broke', 'Traceback (most recent call last):\\nRuntimeError')"
    record(f"end_attempt(Lease({run}, Attempt.objects.get(run={run}, number=2).pk, 2), {end})")
    notice = page.get_by_test_id("ended-now")
    expect(notice).to_contain_text("RuntimeError: it broke")
    expect(page.get_by_test_id("failure")).to_be_hidden()
    wait_for(lambda: charts.bounding_box() == before, lambda: f"charts at {before}, not at {charts.bounding_box()}")
    moved = page.evaluate("shifts")
    # The notices share a line of their own, where one may make room for another.
    assert sum(one[0] for one in moved) < 0.02, moved
    notice.get_by_role("button", name="Show details").click()
    expect(page.get_by_test_id("failure-traceback")).to_contain_text("RuntimeError")
    expect(notice).to_be_hidden()
    expect(page.locator("#ending")).to_be_focused()
    # A page that is loaded afterwards has everything in its place from the start.
    page.reload()
    expect(page.get_by_test_id("failure")).to_be_visible()
    expect(notice).to_be_hidden()
