"""What a person does with charts: smooth them, change their axes, zoom, save."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack, wait_for

LOSS = '[data-testid=chart][data-series~="train/loss"]'


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address, has_touch=True) as page:
        page.goto(f"{stack.address}/runs/{places['ended']}/")
        expect(page.locator(f"{LOSS} canvas")).to_be_visible(timeout=20_000)
        # The last to be drawn above the charts: it moves them.
        expect(page.get_by_test_id("knob").first).to_be_visible(timeout=20_000)
        page.locator(LOSS).scroll_into_view_if_needed()
        yield page


def picture(chart: Locator) -> str:
    """Return what is on the canvas."""
    return str(chart.locator("canvas").evaluate("canvas => canvas.toDataURL()"))


def wait_for_another(chart: Locator, before: str) -> str:
    wait_for(lambda: picture(chart) != before, "another picture", timeout_s=60)
    return picture(chart)


def smooth(page: Page, weight: str) -> None:
    page.locator("#chart-smoothing").fill(weight)


def test_it_smooths_and_shows_the_raw_value_too(page: Page) -> None:
    chart = page.locator(LOSS)
    before = picture(chart)
    smooth(page, "0.9")
    wait_for_another(chart, before)
    chart.focus()
    page.keyboard.press("End")
    expect(chart.locator(".chart-reading")).to_contain_text("raw")


def test_it_says_what_a_log_axis_cannot_show(page: Page) -> None:
    margin = page.locator('[data-series="train/margin"]')
    caption = margin.locator(".chart-caption")
    expect(caption).to_contain_text("of 3,000 points")
    expect(caption).not_to_contain_text("not above zero")
    page.locator("#chart-log").check()
    expect(caption).to_contain_text(re.compile(r"not shown on the log axis, because not above zero: \d+"))


@pytest.mark.parametrize(
    ("over", "first"),
    [("step", r"^step \d\d? "), ("epoch", r"^epoch 0\.0\d "), ("relative", r"^0:0\d "), ("time", ":")],
)
def test_it_draws_over_steps_epochs_and_times(page: Page, over: str, first: str) -> None:
    page.select_option("#chart-over", over)
    chart = page.locator(LOSS)
    name = {"relative": "time since the start"}.get(over, over)
    expect(chart).to_have_attribute("aria-label", re.compile(f"over {name}$"))
    chart.focus()
    page.keyboard.press("Home")
    # The first column: how many of the 3,000 steps it holds follows from the width of the chart.
    expect(chart.locator(".chart-reading")).to_contain_text(re.compile(first))


def test_it_remembers_how_charts_are_drawn(page: Page) -> None:
    smooth(page, "0.5")
    page.select_option("#chart-over", "epoch")
    page.reload()
    expect(page.locator("#chart-over")).to_have_value("epoch")
    expect(page.locator("#chart-tools output")).to_have_text("0.50")
    expect(page.locator(LOSS)).to_have_attribute("aria-label", re.compile("over epoch$"), timeout=20_000)


def test_the_wheel_zooms_only_with_a_key_and_scrolls_without(page: Page) -> None:
    over = page.locator(f"{LOSS} .u-over")
    over.hover()
    reset = page.locator("[data-group=train] .zoom-reset")
    page.mouse.wheel(0, 100)
    wait_for(lambda: page.evaluate("scrollY") > 0, "the page to scroll")
    expect(reset).to_be_hidden()
    over.hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    expect(reset).to_be_visible()
    reset.click()
    expect(reset).to_be_hidden()


def test_two_fingers_and_the_keyboard_zoom(page: Page) -> None:
    chart = page.locator(LOSS)
    reset = page.locator("[data-group=train] .zoom-reset")
    # A hover waits until the page has settled: fingers are put down where the chart stays.
    chart.locator(".u-over").hover()
    box = chart.locator(".u-over").bounding_box()
    assert box is not None
    touch = page.context.new_cdp_session(page)
    middle = (box["x"] + box["width"] / 2, box["y"] + 60)

    def fingers(apart: float) -> list[dict[str, float]]:
        return [{"x": middle[0] + side * apart, "y": middle[1], "id": place} for place, side in enumerate((-1, 1))]

    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": fingers(30)})
    for apart in (50, 80, 120):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": fingers(apart)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(reset).to_be_visible()
    chart.focus()
    page.keyboard.press("0")
    expect(reset).to_be_hidden()
    page.keyboard.press("+")
    expect(reset).to_be_visible()


def test_it_saves_a_picture_named_after_run_and_series(page: Page, tmp_path: Path) -> None:
    chart = page.locator(LOSS)
    chart.hover()
    with page.expect_download() as saving:
        chart.get_by_role("button", name="Save as PNG").click()
    assert re.fullmatch(r"ended-\d+-train-loss\.png", saving.value.suggested_filename)
    saving.value.save_as(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_it_shows_texts_as_text(page: Page) -> None:
    texts = page.get_by_test_id("text")
    expect(texts).to_have_count(10)
    expect(texts.first).to_contain_text("epoch 10 · step 3000")
    expect(texts.first).to_contain_text("<i>A word</i>")


def test_it_tells_attempts_and_what_was_asked_in_every_state(page: Page) -> None:
    expect(page.get_by_test_id("restarts")).to_have_text("1 of 3 restarts used")
    expect(page.get_by_test_id("attempt-row")).to_contain_text("2 ranks · supervisor replaced: 1")
    for state, text in (("applied", "Pause"), ("refused", "only if it is still 0.01"), ("expired", "3 more epochs")):
        row = page.locator(f"[data-testid=command-row][data-state={state}]").filter(has_text=text)
        expect(row).to_have_count(1)
    expect(page.get_by_test_id("command-row").first).to_contain_text("scheduled")
    expect(page.get_by_test_id("checkpoint-row")).to_contain_text("Validation loss 0.3")
    # The best epoch is that of one measure: a card says what its own measure reached.
    expect(page.locator("#stats")).to_contain_text("lowest")
    expect(page.locator("#stats")).not_to_contain_text("best")
