"""A run that was restarted: earlier attempts stay as paler lines, and a person can choose among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

LOSS = '[data-testid=chart][data-series~="train/loss"]'
EPOCHS = '[data-testid=chart][data-series~="train_loss"]'


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        page.goto(f"{stack.address}/runs/{places['again']}/")
        expect(page.locator(f"{LOSS} canvas")).to_be_visible()
        yield page


def test_an_earlier_attempt_stays_as_a_paler_line(page: Page, screenshots: Path) -> None:
    chart = page.locator(LOSS)
    expect(chart).to_have_attribute("data-earlier", "1")
    expect(chart.locator(".chart-caption")).to_contain_text("paler: other attempts")
    # 100 points of the first attempt count, and 200 of the second.
    expect(chart).to_have_attribute("data-points", "300")
    page.screenshot(path=screenshots / "attempts.png", full_page=True)


def test_each_fold_is_a_line_after_a_reload_too(page: Page) -> None:
    chart = page.locator('[data-testid=chart][data-series~="fold/loss"]')
    for _ in ("loaded", "loaded again"):
        chart.scroll_into_view_if_needed()
        expect(chart).to_have_attribute("data-earlier", "2")
        expect(chart).to_have_attribute("data-points", "50")
        expect(chart.locator(".chart-caption")).to_contain_text("earlier passes over the same steps")
        page.reload()


def test_a_person_chooses_the_attempt_that_the_charts_show(page: Page) -> None:
    choice = page.get_by_test_id("attempt-choice")
    expect(choice.locator("option")).to_have_text(["Attempt 2, the latest", "Attempt 1"])
    expect(page.get_by_test_id("epoch-row")).to_have_count(3)
    choice.select_option("1")
    chart = page.locator(LOSS)
    expect(chart).to_have_attribute("data-points", "400")
    expect(chart).to_have_attribute("data-earlier", "1")
    expect(page.get_by_test_id("epoch-row")).to_have_count(4)
    page.locator("#epochs").scroll_into_view_if_needed()
    expect(page.locator(EPOCHS)).to_have_attribute("data-points", "4")
    choice.select_option("")
    # Charts are drawn while they are near the window.
    chart.scroll_into_view_if_needed()
    expect(chart).to_have_attribute("data-points", "300")


def test_the_time_between_attempts_is_not_elapsed(page: Page) -> None:
    # When the stack was made: ten minutes of the first attempt and five of the second; the run began five hours before.
    expect(page.locator("[data-slot=elapsed]")).to_have_text(re.compile(r"^(1[5-9]|[2-5]\d) min"))


def test_a_zoom_is_finer_for_every_attempt(page: Page) -> None:
    chart = page.locator(LOSS)
    chart.scroll_into_view_if_needed()
    chart.focus()
    for _ in range(3):
        page.keyboard.press("+")
    expect(chart).to_have_attribute("data-earlier", "1")
    expect(page.locator("[data-reset-zoom]")).to_be_visible()
