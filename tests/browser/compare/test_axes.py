"""The axes of the parallel coordinates in a browser: which ones are drawn, and ranges on them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

ALL = "all values"


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        yield page


@pytest.fixture
def facts(page: Page, stack: Stack, places: Places) -> Locator:
    """The section with the charts, of runs of which two have their own rate."""
    query = "&".join(f"run={places[name]}" for name in ("live", "ended", "full"))
    page.goto(f"{stack.address}/runs/compare/?{query}&fact_y=last%3Atrain%2Faccuracy")
    facts = page.locator("#fact-charts")
    facts.scroll_into_view_if_needed()
    expect(facts.get_by_test_id("parallel").locator("polyline")).to_have_count(3)
    return facts


def slider(facts: Locator, name: str) -> Locator:
    return facts.get_by_role("slider", name=f"Range of {name}", exact=True)


def pale(chart: Locator, attribute: str) -> Locator:
    """The lines or points whose colour has an opacity."""
    return chart.locator(f"[data-line][{attribute}$='33']")


def test_a_person_chooses_the_axes_and_their_order(facts: Locator, page: Page) -> None:
    chart = facts.get_by_test_id("parallel")
    menu = facts.get_by_test_id("axes")
    usual = chart.get_attribute("aria-label")
    menu.locator("summary").click()
    menu.get_by_role("searchbox", name="Find an axis").fill("RATE")
    expect(menu.get_by_role("checkbox", name="train/accuracy (last)")).to_be_hidden()
    expect(menu.get_by_role("checkbox", name="rate", exact=True)).to_be_visible()
    menu.get_by_role("searchbox").fill("")
    for box in menu.get_by_role("checkbox", checked=True).all()[::-1]:
        box.uncheck()
    expect(facts.get_by_text("Choose at least two axes.")).to_be_visible()
    expect(page).to_have_url(re.compile("&axis=(&|$)"))
    menu.get_by_role("checkbox", name="rate", exact=True).check()
    expect(facts.get_by_text("Choose at least two axes.")).to_be_visible()
    menu.get_by_role("checkbox", name="train/accuracy (last)").check()
    expect(chart).to_have_attribute("aria-label", re.compile(r"runs: rate, train/accuracy \(last\)$"))
    left = menu.get_by_role("button", name="Move train/accuracy (last) to the left")
    left.focus()
    page.keyboard.press("Enter")
    expect(chart).to_have_attribute("aria-label", re.compile(r"runs: train/accuracy \(last\), rate$"))
    # This one is the first now, so that the focus is on its other button.
    expect(menu.get_by_role("button", name="Move train/accuracy (last) to the right")).to_be_focused()
    expect(page).to_have_url(re.compile(r"axis=last%3Atrain%2Faccuracy&axis=parameter%3Arate"))
    page.reload()
    expect(chart).to_have_attribute("aria-label", re.compile(r"runs: train/accuracy \(last\), rate$"))
    # A phone has the menu too, within its screen.
    page.set_viewport_size({"width": 390, "height": 844})
    menu.locator("summary").click()
    box = menu.locator(".column-menu").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    menu.get_by_role("button", name="Default axes").click()
    expect(chart).to_have_attribute("aria-label", str(usual))
    expect(page).not_to_have_url(re.compile("axis="))


def test_a_range_on_an_axis_selects_runs_everywhere(facts: Locator, page: Page) -> None:
    rate = slider(facts, "rate")
    expect(rate).to_have_attribute("aria-valuetext", ALL)
    box = rate.locator(".axis-hit").bounding_box()
    assert box
    x, middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(x, middle, steps=3)
    page.mouse.up()
    expect(rate).to_have_attribute("aria-valuetext", re.compile(r"^0\.\d+ or more$"))
    expect(facts.get_by_text("1 of 3 runs")).to_be_visible()
    page.mouse.move(0, 0)
    expect(pale(facts.get_by_test_id("parallel"), "stroke")).to_have_count(2)
    expect(page.locator("[data-table=runs] tr.run-outside")).to_have_count(2)
    expect(page).to_have_url(re.compile("brush=%5B%22parameter%3Arate%22,0"))
    page.reload()
    expect(facts.get_by_text("1 of 3 runs")).to_be_visible()
    facts.get_by_role("button", name="Clear ranges").click()
    expect(pale(facts.get_by_test_id("parallel"), "stroke")).to_have_count(0)
    expect(facts.get_by_role("button", name="Clear ranges")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("brush="))


def test_ranges_are_changed_with_keys_and_removed_with_a_click(facts: Locator, page: Page) -> None:
    rate, accuracy = slider(facts, "rate"), slider(facts, "train/accuracy (last)")
    page.select_option("#fact-x", label="rate")
    page.mouse.move(0, 0)
    rate.focus()
    page.keyboard.press("ArrowDown")
    expect(rate).to_be_focused()
    expect(rate).to_have_attribute("aria-valuetext", re.compile(r"^up to 0\.\d+$"))
    # One run has another rate, and one has none.
    expect(facts.get_by_text("1 of 3 runs")).to_be_visible()
    expect(pale(facts.get_by_test_id("scatter"), "fill")).to_have_count(1)
    accuracy.focus()
    page.keyboard.press("Shift+ArrowUp")
    # Both ranges count.
    expect(facts.get_by_text("0 of 3 runs")).to_be_visible()
    page.keyboard.press("Escape")
    expect(accuracy).to_have_attribute("aria-valuetext", ALL)
    expect(facts.get_by_text("1 of 3 runs")).to_be_visible()
    rate.locator(".axis-hit").click()
    expect(rate).to_have_attribute("aria-valuetext", ALL)
    expect(facts.get_by_text("of 3 runs")).to_have_count(0)
