"""What a run page tells of its run: the console, pinned measures, full dates."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

# Adds output to the console of a run: colours, and an error.
FAULT = r"""
from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed
lines = [
    LogLine(text="\x1b[38;2;0;0;0;48;2;255;255;0mon a ground\x1b[0m"),
    LogLine(text="\x1b[4;38;2;0;0;90mas dark as the console\x1b[0m"),
    LogLine(text="Traceback (most recent call last):"),
    LogLine(text="out of memory", level="error"),
]
feed.append({run}, LogWritten(attempt=2, lines=lines))
"""
FULL_TIME = re.compile(r"20\d\d, \d\d:\d\d:\d\d \S+$")


@pytest.fixture
def page(stack: Stack, chromium: Browser) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        yield page


def test_the_console_of_a_live_run_leads_to_its_error_and_shows_readable_colours(
    page: Page, stack: Stack, places: Places
) -> None:
    page.goto(f"{stack.address}/runs/{places['again']}/")
    jump = page.get_by_test_id("console-jump")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "running")
    expect(jump).to_be_hidden()
    stack.manage("shell", "-v", "0", "-c", FAULT.format(run=places["again"]))
    expect(jump).to_be_visible()
    page.get_by_test_id("console-search").fill("hides every line")
    jump.click()
    shown = page.locator(".line-shown")
    expect(shown).to_contain_text("Traceback (most recent call last)")
    expect(shown).to_be_in_viewport()
    page.get_by_label("Level").select_option("errors")
    expect(page.locator("#console .line:visible")).to_have_text(["out of memory"])
    page.get_by_label("Level").select_option("")
    coloured = {"on a ground": "rgb(255, 255, 0)", "as dark as the console": "rgba(0, 0, 0, 0)"}
    for text, ground in coloured.items():
        expect(page.locator("#console .line span", has_text=text)).to_have_css("background-color", ground)
    expect(page.locator("#console .line span", has_text="on a ground")).to_have_css("color", "rgb(0, 0, 0)")
    expect(page.locator("#console .ansi-underlined")).to_have_css("text-decoration-line", "underline")


def test_times_have_their_full_date_in_the_tooltip(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/runs/{places['full']}/")
    expect(page.get_by_test_id("state")).to_have_attribute("data-state", "paused")
    expect(page.get_by_test_id("review-note").locator("time")).to_have_attribute("title", FULL_TIME)
    expect(page.get_by_test_id("text").first.locator("time")).to_have_attribute("title", FULL_TIME)
    expect(page.locator("#console .line").last).to_have_attribute("title", FULL_TIME)
    # What was so already when the page was loaded is not announced.
    expect(page.get_by_test_id("announced")).to_have_text("")


def test_a_pinned_measure_of_the_machine_has_a_card(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/runs/{places['ended']}/")
    page.locator("[data-group=gpu] > summary").click()
    page.locator("[data-key='gpu/utilisation']").get_by_test_id("pin").click()
    card = page.locator("#stats .stat").nth(1)
    expect(card.locator(".stat-title")).to_have_text("gpu/utilisation")
    expect(card.locator(".stat-value")).to_have_text("64 % – 83 %")
    expect(card.locator(".stat-below")).to_have_text(re.compile(r"\d\d:\d\d:\d\d$"))
    card.get_by_role("button", name="Unpin the card gpu/utilisation").click()
    expect(page.locator("#stats")).not_to_contain_text("gpu/utilisation")
