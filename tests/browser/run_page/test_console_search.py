"""The console of a run page finds lines in all stored output, of which it has the newest part only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import log_in, operators_page
from tests.support.stack import Stack, create_run

PRINT = r"""
from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed
for first in range(0, 3000, 500):
    lines = [LogLine(text=f"\x1b[32mLine\x1b[0m {{number}}") for number in range(first, first + 500)]
    feed.append({run}, LogWritten(attempt=1, lines=lines))
warning = LogLine(text="line of a warning", source="steersman", level="warning")
feed.append({run}, LogWritten(attempt=1, lines=[warning]))
"""


@pytest.fixture
def page(stack: Stack, chromium: Browser) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        yield page


def test_lines_are_found_in_the_whole_output(page: Page, stack: Stack, places: Places) -> None:
    run = create_run(stack, "printed")
    stack.manage("shell", "-v", "0", "-c", PRINT.format(run=run))
    page.goto(f"{stack.address}/runs/{run}/")
    live, found = page.locator("#console [data-slot=lines]"), page.get_by_test_id("console-found")
    field, hits, whole = (page.get_by_test_id(f"console-{name}") for name in ("search", "hits", "whole"))
    expect(live).to_contain_text("Line 2999")
    expect(whole).to_be_hidden()
    field.fill("line 12")
    expect(hits).to_contain_text("0 of ")
    whole.click()
    expect(hits).to_have_text("Lines of the whole output: 111")
    expect(live).to_be_hidden()
    expect(found.locator(".line")).to_have_count(111)
    expect(found.locator(".line").first).to_have_text("Line 12")
    expect(found.locator("mark").first).to_have_text("Line 12")
    # The whole output has more lines than are shown, and none of these is stored.
    field.fill("line")
    expect(live).to_be_visible()
    field.press("Enter")
    expect(hits).to_have_text("Lines of the whole output: 3,001; the newest 200 are shown")
    page.get_by_label("Level").select_option("problems")
    expect(live).to_be_visible()
    field.press("Enter")
    expect(found.locator(".line")).to_have_text(["line of a warning"])
    field.fill("nowhere")
    whole.click()
    expect(found).to_have_text("No line of the stored output contains “nowhere”.")
    found.press("Escape")
    expect(live).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_value("nowhere")


def test_a_search_that_failed_says_why(chromium: Browser, stack: Stack, places: Places) -> None:
    with chromium.new_context(locale="en-GB") as context:
        page = context.new_page()
        log_in(page, stack.address, "operator", "operator")
        page.goto(f"{stack.address}/runs/{places['ended']}/")
        page.route("**/console/?*", lambda route: route.fulfill(status=502))
        page.get_by_test_id("console-search").fill("epoch")
        whole = page.get_by_test_id("console-whole")
        whole.click()
        expect(page.get_by_test_id("console-found")).to_contain_text("The portal is being restarted")
        page.unroute("**/console/?*")
        expect(whole).to_have_text("Back to the live output")
        whole.click()
        expect(page.locator("#console [data-slot=lines]")).to_be_visible()
