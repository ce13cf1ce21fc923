"""What people do with charts: smooth them, change their axes, zoom, save."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page, settled_picture
from tests.support.stack import Stack, wait_for

HAS_INK = """strips => strips.map(strip => strip.width > 0
    && strip.getContext("2d").getImageData(0, 0, strip.width, strip.height).data.some(Boolean))"""
LOSS = '[data-testid=chart][data-series~="train/loss"]'


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address, has_touch=True) as page:
        page.goto(f"{stack.address}/runs/{places['ended']}/")
        expect(page.locator(f"{LOSS} canvas")).to_be_visible()
        # The last part that is drawn above the charts, which moves them.
        expect(page.get_by_test_id("knob").first).to_be_visible()
        page.locator(LOSS).scroll_into_view_if_needed()
        yield page


# A browser whose frames and observers never come.
NO_FRAMES = """
    window.requestAnimationFrame = () => 1;
    window.IntersectionObserver = window.ResizeObserver = class { observe() {} unobserve() {} disconnect() {} };
"""


def test_the_first_curve_is_drawn_with_the_history(stack: Stack, chromium: Browser, places: Places) -> None:
    with operators_page(chromium, stack.address) as page:
        page.add_init_script(NO_FRAMES)
        page.goto(f"{stack.address}/runs/{places['live']}/")
        charts = page.get_by_test_id("chart")
        expect(charts.first).not_to_have_attribute("data-points", "0")
        assert charts.count() > 1
        assert page.locator("[data-testid=chart] canvas").count() == 1
        assert page.locator(f"{LOSS} canvas").bounding_box()["width"] > 200  # type: ignore[index]


# Selectors with :has() whose element is on the page: what stands before :has(), without an open parenthesis, finds it.
CONTENT_RULES = """() => {
    const unclosed = (text) => [...text].reduce((sum, one) => sum + (one === "(") - (one === ")"), 0);
    const split = (list) => list.split(",").reduce((parts, part) => {
        const whole = parts.length && unclosed(parts.at(-1)) > 0 ? `${parts.pop()},${part}` : part;
        return [...parts, whole];
    }, []);
    const selectors = (rules) => [...rules].flatMap((rule) => [
        ...split(rule.selectorText ?? ""), ...(rule.cssRules ? selectors(rule.cssRules) : []),
    ]);
    const before = (selector) => {
        let text = selector.split(":has(")[0];
        while (unclosed(text) > 0) text = text.slice(0, text.lastIndexOf("(")).replace(/:[a-z-]+$/, "");
        return text.trim() || "*";
    };
    const all = [...document.styleSheets].flatMap((sheet) => selectors(sheet.cssRules));
    return all.filter((selector) => selector.includes(":has(") && document.querySelector(before(selector)));
}"""


def test_no_rule_of_a_run_page_depends_on_what_an_element_contains(page: Page) -> None:
    """With one, also of a library, each new value makes the browser recalculate all styles, 0.9 s of each second."""
    assert page.evaluate(CONTENT_RULES) == []


def wait_for_another(chart: Locator, before: str) -> str:
    wait_for(lambda: settled_picture(chart) != before, "another picture")
    return settled_picture(chart)


def smooth(page: Page, weight: str) -> None:
    page.locator("#chart-smoothing").fill(weight)


def test_it_smooths_and_shows_the_raw_value_too(page: Page) -> None:
    chart = page.locator(LOSS)
    before = settled_picture(chart)
    smooth(page, "0.9")
    wait_for_another(chart, before)
    chart.focus()
    page.keyboard.press("End")
    expect(chart.locator(".chart-reading")).to_contain_text("raw")


def test_it_smooths_by_other_means_and_leaves_outliers_off_the_scale(page: Page) -> None:
    chart = page.locator(LOSS)
    smooth(page, "0.9")
    before = settled_picture(chart)
    page.get_by_test_id("chart-more").click()
    for kind in ("mean", "gaussian"):
        page.locator("#chart-kind").select_option(kind)
        before = wait_for_another(chart, before)
    expect(page.locator("#chart-tools output")).to_have_text("19 points")
    page.locator("#chart-outliers").check()
    page.keyboard.press("Escape")
    expect(page.locator("#chart-outliers")).to_be_hidden()
    spiked = page.locator('[data-series="train/margin"] .chart-caption')
    expect(spiked).to_contain_text("off the scale, marked by arrows: 6")
    expect(chart.locator(".chart-caption")).not_to_contain_text("off the scale")
    page.reload()
    expect(spiked).to_contain_text("off the scale")
    expect(page.locator("#chart-kind")).to_have_value("gaussian")


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
    # The first column: how many of the 3,000 steps it has depends on the width of the chart.
    expect(chart.locator(".chart-reading")).to_contain_text(re.compile(first))


def test_it_remembers_how_charts_are_drawn(page: Page) -> None:
    smooth(page, "0.5")
    page.select_option("#chart-over", "epoch")
    page.reload()
    expect(page.locator("#chart-over")).to_have_value("epoch")
    expect(page.locator("#chart-tools output")).to_have_text("0.50")
    expect(page.locator(LOSS)).to_have_attribute("aria-label", re.compile("over epoch$"))


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
    # A hover waits until the page has settled, so that the fingers touch a chart that stays in place.
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


def shown(chart: Locator) -> str:
    """Return what the chart says of the points in sight: their range changes with what is shown."""
    return chart.get_attribute("aria-label") or ""


def test_a_zoomed_chart_is_moved_by_the_keyboard_and_by_a_drag_with_shift(page: Page) -> None:
    chart = page.locator(LOSS)
    chart.focus()
    page.keyboard.press("+")
    expect(page.locator("[data-group=train] .zoom-reset")).to_be_visible()
    for _ in range(3):
        page.keyboard.press("+")
    before = shown(chart)
    page.keyboard.press("Shift+ArrowLeft")
    wait_for(lambda: shown(chart) != before, "another range")
    moved = shown(chart)
    over = chart.locator(".u-over")
    over.hover(position={"x": 40, "y": 60})
    page.keyboard.down("Shift")
    page.mouse.down()
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 60, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    wait_for(lambda: shown(chart) != moved, "another range")
    # It was moved, and not zoomed to what was dragged over: a step back, and a whole chart is not in sight.
    assert chart.locator(".u-select").evaluate("one => one.offsetWidth") == 0
    page.keyboard.press("z")
    expect(page.locator("[data-group=train] .zoom-reset")).to_be_hidden()


def test_the_machine_has_a_row_for_each_gpu_each_rank_and_the_host(page: Page, screenshots: Path) -> None:
    page.locator("#machine").scroll_into_view_if_needed()
    rows = page.get_by_test_id("machine-row")
    expect(rows.locator("h3")).to_have_text(["GPU 0", "GPU 1", "Rank 0", "Rank 1", "Host"])
    expect(rows.nth(0)).to_contain_text("83 %")
    wait_for(lambda: rows.locator("canvas").evaluate_all(HAS_INK) == [True] * 9, "the strips")
    slow = "Slower than the other ranks: a step takes 101 ms without waiting, theirs 41 ms."
    expect(rows.locator(".machine-note")).to_have_text(["", "", "", slow, ""])
    expect(page.locator("[data-group=gpu]")).not_to_have_attribute("open", "")
    page.locator("[data-group=gpu] > summary").click()
    expect(page.locator('[data-key="gpu/utilisation"] canvas')).to_be_visible()
    page.locator("[data-group=host] > summary").click()
    legend = page.locator('[data-key="host/rank/step_ms"]')
    expect(legend).to_contain_text("Rank 0")
    expect(legend).to_contain_text("Rank 1")
    page.locator("#machine").screenshot(path=screenshots / "machine.png")


def saved(page: Page, chart: Locator, kind: str, folder: Path) -> bytes:
    chart.get_by_test_id("chart-menu").click()
    with page.expect_download() as saving:
        chart.get_by_role("button", name=f"Save as {kind.upper()}").click()
    assert re.fullmatch(rf"ended-\d+-train-loss\.{kind}", saving.value.suggested_filename)
    saving.value.save_as(folder / kind)
    return (folder / kind).read_bytes()


def test_it_saves_pictures_and_a_table_named_after_run_and_series(page: Page, screenshots: Path) -> None:
    chart = page.locator(LOSS)
    chart.hover()
    picture = saved(page, chart, "png", screenshots)
    assert picture.startswith(b"\x89PNG")
    width = chart.locator(".u-wrap").evaluate("one => one.offsetWidth")
    assert int.from_bytes(picture[16:20], "big") == 2 * width
    drawing = ElementTree.fromstring(saved(page, chart, "svg", screenshots))
    texts = [text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"train/loss", "step", "1000", "NaN"} <= set(texts)
    points = drawing.find(".//{http://www.w3.org/2000/svg}polyline")
    assert points is not None and len(points.attrib["points"].split()) > 20
    head, *lines = saved(page, chart, "csv", screenshots).decode().splitlines()
    assert head.startswith("step,train/loss,") and len(lines) == 375


def test_a_chart_has_a_scale_of_its_own_and_shows_its_value_with_all_digits(page: Page) -> None:
    chart, other = page.locator(LOSS), page.locator('[data-series="train/accuracy"]')
    untouched, before = settled_picture(other), settled_picture(chart)
    chart.hover()
    chart.get_by_test_id("chart-menu").click()
    expect(chart.locator(".chart-values")).to_have_text(re.compile(r"0\.00495\d{5,}"))
    chart.get_by_label("Log axis of this chart").check()
    before = wait_for_another(chart, before)
    chart.get_by_label("lowest").fill("0.5")
    chart.get_by_label("highest").fill("0.1")
    chart.get_by_label("highest").press("Enter")
    expect(chart.get_by_text("Give a lowest value below the highest.")).to_be_visible()
    chart.get_by_label("highest").fill("1.5")
    chart.get_by_label("highest").press("Enter")
    before = wait_for_another(chart, before)
    chart.get_by_role("button", name="Automatic").click()
    wait_for_another(chart, before)
    assert settled_picture(other) == untouched


def test_a_link_leads_others_to_the_same_view(page: Page, chromium: Browser, stack: Stack) -> None:
    chart = page.locator(LOSS)
    chart.hover()
    chart.get_by_test_id("add-series").click()
    added = chart.get_by_label("Add a series to this chart").and_(chart.get_by_role("searchbox"))
    expect(added).to_be_focused()
    added.fill("train/nothing")
    added.press("Enter")
    expect(chart.get_by_text("The run has no other series train/nothing.")).to_be_visible()
    added.fill("train/accuracy")
    added.press("Enter")
    both = page.locator('[data-series="train/loss train/accuracy"]')
    expect(both.locator(".legend-line")).to_have_text([re.compile("^train/loss0"), re.compile("^train/accuracy9")])
    before = settled_picture(both)
    entry = both.locator(".legend-line", has_text="train/accuracy")
    entry.click()
    expect(entry).to_have_attribute("aria-pressed", "false")
    alone = wait_for_another(both, before)
    entry.click()
    wait_for_another(both, alone)
    # Pointing at the other line makes this one paler, and takes nothing away.
    both.locator(".legend-line", has_text="train/loss").focus()
    wait_for(lambda: settled_picture(both) not in (before, alone), "a paler line")
    both.focus()
    wait_for(lambda: settled_picture(both) == before, "both lines as they were")
    smooth(page, "0.5")
    page.select_option("#chart-over", "epoch")
    expect(both).to_have_attribute("aria-label", re.compile("over epoch$"))
    both.focus()
    page.keyboard.press("+")
    expect(page.locator("[data-group=train] .zoom-reset")).to_be_visible()
    page.locator("#chart-filter").fill("train/")
    page.get_by_test_id("chart-more").click()
    page.get_by_role("button", name="Copy link to this view").click()
    link = page.locator("#view-link").input_value()
    with operators_page(chromium, stack.address) as other:
        other.goto(link)
        same = other.locator('[data-series="train/loss train/accuracy"]')
        expect(same).to_have_attribute("aria-label", re.compile("over epoch$"))
        expect(other.locator("#chart-smoothing")).to_have_value("0.5")
        expect(other.get_by_test_id("chart-hits")).to_contain_text("3 of")
        reset = other.locator("[data-group=train] .zoom-reset")
        expect(reset).to_be_visible()
        other.goto(f"{stack.address}/runs/{link.split('/runs/')[1].split('/')[0]}/")
        expect(other.locator(f"{LOSS} canvas")).to_be_visible()
        expect(other.locator("#chart-smoothing")).to_have_value("0")
    both.get_by_test_id("add-series").click()
    both.get_by_role("button", name="Remove the added series").click()
    expect(page.locator('[data-series="train/loss"]')).to_be_visible()


def test_values_of_epochs_are_drawn_over_the_steps_and_removed_in_the_legend(page: Page) -> None:
    chart = page.locator(LOSS)
    chart.hover()
    chart.get_by_test_id("add-series").focus()
    page.keyboard.press("Enter")
    page.keyboard.type("validation_loss, per")
    page.keyboard.press("ArrowDown")
    expect(chart.get_by_role("button", name="validation_loss, per epoch")).to_be_focused()
    page.keyboard.press("Enter")
    both = page.locator('[data-series="train/loss /epochs/validation_loss"]')
    shown = [re.compile("^train/loss0"), re.compile("^validation_loss, per epoch0")]
    expect(both.locator(".legend-line")).to_have_text(shown)
    expect(both.get_by_test_id("add-series")).to_be_focused()
    both.focus()
    page.keyboard.press("End")
    expect(both.locator(".chart-reading")).to_have_text("step 3000")
    page.reload()
    expect(both.locator(".legend-line")).to_have_count(2)
    both.get_by_role("button", name="Remove validation_loss, per epoch from this chart").click()
    alone = page.locator('[data-series="train/loss"]')
    expect(alone).to_be_visible()
    expect(alone.get_by_test_id("add-series")).to_be_focused()


def test_it_shows_texts_as_text(page: Page) -> None:
    texts = page.get_by_test_id("text")
    expect(texts).to_have_count(10)
    expect(texts.first).to_contain_text("epoch 10 · step 3000")
    expect(texts.first).to_contain_text("<i>A word</i>")


def test_the_console_is_coloured_and_searched(page: Page) -> None:
    lines = page.locator("#console .line:visible")
    expect(lines).to_have_text([re.compile("skipped"), "epoch 1", "no space left"])
    expect(page.locator("#console .ansi-green.ansi-bold")).to_have_text("1")
    page.get_by_test_id("console-search").fill("EPOCH")
    expect(lines).to_have_text(["epoch 1"])
    expect(page.get_by_test_id("console-hits")).to_have_text("1 of 3 lines")
    page.get_by_test_id("console-search").fill("")
    page.get_by_label("Level").select_option("problems")
    # The skipped output may have contained a warning too.
    expect(lines).to_have_text([re.compile("skipped"), "no space left"])
    page.get_by_label("Level").select_option("steersman")
    expect(lines).to_have_text(["no space left"])
    expect(lines).to_have_attribute("title", re.compile(r"20\d\d, \d\d:\d\d:\d\d \S+$"))
    expect(page.get_by_test_id("announced")).to_have_text("1 of 3 lines")
    page.get_by_label("Level").select_option("errors")
    expect(lines).to_have_count(0)
    expect(page.get_by_test_id("console-jump")).to_be_hidden()


def test_it_tells_attempts_and_what_was_asked_in_every_state(page: Page) -> None:
    expect(page.get_by_test_id("restarts")).to_have_text("1 of 3 restarts used")
    expect(page.get_by_test_id("attempt-row")).to_contain_text("2 ranks · supervisor replaced: 1")
    for state, text in (("applied", "Pause"), ("refused", "only if it is still 0.01"), ("expired", "3 more epochs")):
        row = page.locator(f"[data-testid=command-row][data-state={state}]").filter(has_text=text)
        expect(row).to_have_count(1)
    expect(page.get_by_test_id("command-row").filter(has_text="scheduled").first).to_be_visible()
    expect(page.get_by_test_id("checkpoint-row")).to_contain_text("Validation loss 0.3")
    # The best epoch is chosen by one metric: a card shows what its own metric reached.
    expect(page.locator("#stats")).to_contain_text("lowest")
    expect(page.locator("#stats")).not_to_contain_text("best")
