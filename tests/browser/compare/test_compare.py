"""Runs compared in a browser: charts of all metrics, hiding and pointing at runs, search, zoom, and the address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page, settled_picture
from tests.support.stack import Stack, create_run, rows, wait_for

LOSS = '[data-testid=chart][data-series~="train/loss"]'
MARGIN = '[data-testid=chart][data-series~="train/margin"]'


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    with operators_page(chromium, stack.address) as page:
        yield page


def compared(stack: Stack, places: Places, *names: str) -> str:
    query = "&".join(f"run={places[name]}" for name in names or ("live", "ended"))
    return f"{stack.address}/runs/compare/?{query}"


def run_row(page: Page, number: int) -> Locator:
    return page.locator(f"[data-table=runs] tr[data-run='{number}']")


def test_it_draws_every_metric_of_the_runs_that_were_ticked(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/?project=pages")
    for name in ("live", "ended"):
        page.get_by_role("checkbox", name=f"Select {name} #{places[name]}").check()
    page.get_by_role("button", name="Compare 2").click()
    expect(page).to_have_url(f"{stack.address}/runs/compare/?run={places['live']}&run={places['ended']}")
    expect(page.get_by_test_id("compared")).to_have_count(2)
    label = re.compile(f"live #{places['live']} 0.09957, ended #{places['ended']} 0.004958")
    expect(page.locator(LOSS)).to_have_attribute("aria-label", label)
    expect(run_row(page, places["ended"]).locator("[data-slot=last]")).to_have_text("0.004958")
    expect(run_row(page, places["ended"]).locator("[data-slot=extreme]")).to_have_text("lowest 0.004958")
    # Charts further down are created when they come close.
    machine = page.locator("summary", has_text="Machine")
    expect(page.locator(".chart-shell[data-key='gpu/0/utilisation']")).to_have_count(1)
    machine.click()
    utilisation = page.locator("[data-testid=chart][data-series~='gpu/0/utilisation']")
    expect(utilisation).to_have_count(1)
    utilisation.scroll_into_view_if_needed()
    expect(utilisation.locator("canvas")).to_be_visible()
    measure = page.locator("[data-testid=chart][data-series^=validation_loss]")
    measure.scroll_into_view_if_needed()
    expect(measure).to_have_attribute("aria-label", re.compile(f"ended #{places['ended']} 0\\.\\d"))
    page.get_by_role("link", name=f"Leave out live #{places['live']}").click()
    expect(page.get_by_test_id("compared")).to_have_count(1)


def test_an_eye_hides_a_run_everywhere_and_pointing_at_one_makes_the_others_paler(
    page: Page, stack: Stack, places: Places
) -> None:
    page.goto(compared(stack, places))
    chart = page.locator(LOSS)
    expect(chart).to_have_attribute("data-points", "6000")
    before = settled_picture(chart)
    eye = run_row(page, places["live"]).get_by_role("button", name=f"Show live #{places['live']}")
    eye.click()
    expect(eye).to_have_attribute("aria-pressed", "false")
    expect(chart).to_have_attribute("data-points", "3000")
    expect(chart).not_to_have_attribute("aria-label", re.compile("live #"))
    expect(page).to_have_url(re.compile(f"hidden={places['live']}$"))
    page.reload()
    expect(chart).to_have_attribute("data-points", "3000")
    page.get_by_role("button", name="Show all runs").click()
    expect(chart).to_have_attribute("data-points", "6000")
    page.mouse.move(0, 0)
    wait_for(lambda: settled_picture(chart) == before, "the picture of before")
    run_row(page, places["ended"]).hover()
    wait_for(lambda: settled_picture(chart) != before, "a paler line")
    # With the pointer on a line, its run is highlighted.
    page.mouse.move(0, 0)
    wait_for(lambda: settled_picture(chart) == before, "the picture of before")
    box = chart.locator(".u-over").bounding_box()
    assert box is not None
    # The page follows the pointer a frame later, so no height is tried once only.
    heights = cycle(range(2, int(box["height"]), 6))

    def points_at_a_run() -> bool:
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + next(heights))
        row = page.locator("[data-table=runs] tr.run-near")
        return row.count() == 1 and row.locator("[data-slot=last]").inner_text() not in ("0.09957", "0.004958")

    wait_for(points_at_a_run, "a line below the pointer")


def test_the_others_are_compared_with_a_baseline(page: Page, stack: Stack, places: Places) -> None:
    page.goto(compared(stack, places))
    button = run_row(page, places["live"]).get_by_role("button", name=f"Baseline: live #{places['live']}")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    line = page.locator("[data-table=metrics] tr", has=page.get_by_role("rowheader", name="train/loss last"))
    expect(line.locator("[data-delta]")).to_have_text("−0.09462")
    rate = page.locator("[data-table=parameters] tr", has=page.get_by_role("rowheader", name="rate"))
    expect(rate.locator("td.differs")).to_have_text("0.002 differs from the baseline")
    page.reload()
    expect(line.locator("[data-delta]")).to_have_text("−0.09462")
    button.click()
    expect(line.locator("[data-delta]")).to_have_count(0)
    expect(page).not_to_have_url(re.compile("baseline"))


def test_runs_are_grouped_by_a_parameter(page: Page, stack: Stack, places: Places) -> None:
    page.goto(compared(stack, places, "live", "ended", "full"))
    expect(page.get_by_test_id("compared")).to_have_count(3)
    page.select_option("#group-by", label="rate (3)")
    expect(page).to_have_url(re.compile("group=parameter%3Arate$"))
    expect(page.get_by_test_id("compared").first).to_contain_text("rate = 0.001")
    chart = page.locator(LOSS)
    label = re.compile(r"rate = 0\.001 \(1 run\) 0\.09957, rate = 0\.002 \(1 run\) 0\.004958.*over step$")
    expect(chart).to_have_attribute("aria-label", label)
    page.select_option("#chart-over", "relative")
    expect(chart).to_have_attribute("aria-label", re.compile("over time since the start$"))
    page.get_by_role("button", name="Show rate = 0.002 1 run").click()
    expect(chart).not_to_have_attribute("aria-label", re.compile("0.002"))
    page.select_option("#chart-over", "step")
    # Parameters and metrics against each other: a run has the colour of its group.
    facts = page.locator("#fact-charts")
    facts.scroll_into_view_if_needed()
    expect(facts.get_by_test_id("scatter").locator("circle")).to_have_count(1)
    page.select_option("#fact-x", label="rate")
    page.select_option("#fact-y", label="train/accuracy (last)")
    page.get_by_role("button", name="Show all runs").click()
    label = re.compile(r"Scatter chart of train/accuracy \(last\) against rate: 2 runs")
    expect(facts.get_by_test_id("scatter")).to_have_attribute("aria-label", label)
    expect(facts.get_by_test_id("parallel").locator("polyline")).to_have_count(3)
    expect(page).to_have_url(re.compile("fact_x=parameter%3Arate&fact_y=last%3Atrain%2Faccuracy"))
    facts.get_by_role("button", name="Importance of parameters for y").click()
    expect(facts.locator("[data-slot=importance]")).to_contain_text("Runs with a value of this metric: 3.")


def test_search_x_and_zoom_hold_for_all_charts_and_stand_in_the_address(
    page: Page, stack: Stack, places: Places
) -> None:
    page.goto(compared(stack, places))
    chart, margin = page.locator(LOSS), page.locator(MARGIN)
    expect(chart.locator("canvas")).to_be_visible()
    page.locator("body").click(position={"x": 1, "y": 1})
    page.keyboard.press("/")
    page.keyboard.type("re:/(loss|margin)$")
    expect(page.locator("#chart-hits")).to_contain_text("2 of ")
    expect(page.locator("[data-testid=chart]:visible")).to_have_count(2)
    page.select_option("#chart-over", "relative")
    expect(chart).to_have_attribute("aria-label", re.compile("; 6,000 points; over time since the start$"))
    chart.focus()
    page.keyboard.press("+")
    expect(page).to_have_url(re.compile(r"&search=re.+&x=relative&zoom=relative,[\d.]+,[\d.]+$"))
    address = page.url
    points = re.compile(r"; [1-5],\d{3} points; over time since the start$")
    expect(margin).to_have_attribute("aria-label", points)
    page.goto(compared(stack, places))
    page.select_option("#chart-over", "step")
    page.goto(address)
    expect(page.locator("#chart-over")).to_have_value("relative")
    expect(margin).to_have_attribute("aria-label", points)
    page.keyboard.press("z")
    expect(page).not_to_have_url(re.compile("zoom="))
    expect(margin).to_have_attribute("aria-label", re.compile("; 6,000 points; "))
    page.locator("#chart-search").fill("no such metric")
    expect(page.locator("#no-charts")).to_be_visible()
    expect(page.locator("[data-testid=chart]:visible")).to_have_count(0)


def test_a_comparison_follows_a_run_from_the_queue_to_its_end(page: Page, stack: Stack, places: Places) -> None:
    run = create_run(stack, "compared", state="queued")
    page.goto(f"{compared(stack, places, 'ended')}&run={run}")
    row = run_row(page, run)
    for state, shown in (("queued", "queued"), ("running", "running"), ("lost", "lost"), ("finished", "finished")):
        rows(stack, "UPDATE runs_run SET state = ? WHERE id = ? RETURNING id", state, run)
        expect(row).to_contain_text(shown)


def test_a_run_without_epochs_is_left_out_over_epochs(page: Page, stack: Stack, places: Places) -> None:
    chart, note = page.locator(LOSS), page.locator("#left-out")
    page.goto(compared(stack, places, "live", "again"))
    page.select_option("#chart-over", "epoch")
    # One run declares its steps per epoch, the other one has recorded epochs.
    expect(chart).to_have_attribute("aria-label", re.compile("over epoch$"))
    expect(chart).to_have_attribute("data-points", "3300")
    expect(note).to_be_hidden()
    abandon = "UPDATE runs_epochmetric SET abandoned = ? WHERE run_id = ? RETURNING id"
    rows(stack, abandon, True, places["again"])
    try:
        page.reload()
        expect(chart).to_have_attribute("data-points", "3000")
        expect(note).to_have_text("Runs without epochs are left out over epochs: 1.")
        # If no run has any, steps stay steps.
        page.goto(compared(stack, places, "again"))
        expect(chart).to_have_attribute("aria-label", re.compile("over step$"))
        expect(page.locator("#chart-over")).to_have_value("step")
    finally:
        rows(stack, abandon, False, places["again"])


def of_another_build(route: Route) -> None:
    response = route.fetch()
    route.fulfill(response=response, headers={**response.headers, "steersman-build": "another"})


def test_a_page_that_is_older_than_the_portal_offers_to_reload(page: Page, stack: Stack, places: Places) -> None:
    offer = page.get_by_test_id("upgrade")
    page.goto(compared(stack, places))
    expect(page.locator(LOSS).locator("canvas")).to_be_visible()
    expect(offer).to_have_count(0)
    for requests in ("**/*fragment=1*", "**/compare/curves/*"):
        page.route(requests, of_another_build)
        page.reload()
        expect(offer).to_contain_text("The portal was upgraded.")
        # A reload would break off an answer that is still being changed.
        page.unroute_all(behavior="wait")


def test_a_run_is_highlighted_in_charts_and_tables_alike(page: Page, stack: Stack, places: Places) -> None:
    page.goto(compared(stack, places))
    line = page.locator("[data-table=metrics] tr", has=page.get_by_role("rowheader", name="train/loss last"))
    rate = page.locator("[data-table=parameters] tr", has=page.get_by_role("rowheader", name="rate"))
    rate.locator("td").nth(1).hover()
    expect(run_row(page, places["ended"])).to_have_class(re.compile("run-near"))
    expect(line.locator("td").nth(1)).to_have_class(re.compile("column-near"))
    expect(line.locator("td").nth(0)).not_to_have_class(re.compile("column-near"))
    run_row(page, places["live"]).hover()
    for row in (line, rate):
        expect(row.locator("td").nth(0)).to_have_class(re.compile("column-near"))
        expect(row.locator("td").nth(1)).not_to_have_class(re.compile("column-near"))
    page.mouse.move(0, 0)
    expect(page.locator(".column-near")).to_have_count(0)


def test_the_address_has_the_whole_view(page: Page, stack: Stack, places: Places) -> None:
    page.goto(compared(stack, places))
    chart = page.locator(LOSS)
    expect(chart.locator("canvas")).to_be_visible()
    page.locator("#chart-smoothing").fill("0.5")
    page.locator("#chart-log").check()
    page.get_by_test_id("chart-more").click()
    page.select_option("#chart-kind", "gaussian")
    page.locator("#chart-outliers").check()
    page.keyboard.press("Escape")
    menu = page.locator(MARGIN).get_by_test_id("chart-menu")
    menu.click()
    page.locator(MARGIN).get_by_label("Log axis of this chart").uncheck()
    page.locator(MARGIN).get_by_label("lowest").fill("-2")
    page.locator(MARGIN).get_by_label("highest").fill("3")
    page.locator(MARGIN).get_by_label("highest").blur()
    page.locator("#fact-xlog").check()
    page.locator("summary", has_text="Machine").click()
    for part in ("smooth=gaussian%3A0.5", "log=1", "outliers=0", "linear_of=train", "range=-2%3A3%3A", "fact_xlog=1"):
        expect(page).to_have_url(re.compile(re.escape(part)))
    expect(page).to_have_url(re.compile("unfold=machine"))
    address = page.url
    with operators_page(page.context.browser, stack.address) as other:  # type: ignore[arg-type]
        other.goto(address)
        expect(other.locator("#chart-smoothing")).to_have_value("0.5")
        expect(other.locator("#chart-kind")).to_have_value("gaussian")
        for ticked in ("#chart-log", "#chart-outliers", "#fact-xlog"):
            expect(other.locator(ticked)).to_be_checked()
        expect(other.locator("details[data-group=Machine]")).to_have_attribute("open", "")
        expect(other.locator(MARGIN).locator("canvas")).to_be_visible()
        other.locator(MARGIN).get_by_test_id("chart-menu").click()
        expect(other.locator(MARGIN).get_by_label("lowest")).to_have_value("-2")
        expect(other.locator(MARGIN).get_by_label("Log axis of this chart")).not_to_be_checked()
        assert other.url == address


def test_a_star_pins_a_chart_to_the_top_for_the_project(page: Page, stack: Stack, places: Places) -> None:
    page.goto(compared(stack, places))
    pinned = page.locator("details[data-group=Pinned]")
    expect(page.locator(MARGIN).locator("canvas")).to_be_visible()
    expect(pinned).to_be_hidden()
    star = page.locator(MARGIN).get_by_test_id("pin")
    star.click()
    expect(pinned.locator(MARGIN)).to_be_visible()
    expect(pinned.locator(".group-count")).to_have_text("1")
    expect(page.locator("#curves details").first).to_have_attribute("data-group", "Pinned")
    expect(star).to_have_attribute("aria-pressed", "true")
    # The page of a run has the same pins.
    page.goto(f"{stack.address}/runs/{places['live']}/")
    star = page.locator("[data-key='train/margin']").get_by_test_id("pin")
    expect(star).to_have_attribute("aria-pressed", "true")
    page.goto(compared(stack, places))
    pinned.locator(MARGIN).get_by_test_id("pin").click()
    expect(pinned).to_be_hidden()
    page.reload()
    expect(page.locator(MARGIN).locator("canvas")).to_be_visible()
    expect(pinned).to_be_hidden()


def test_the_pointer_alone_does_not_write_the_address(page: Page, stack: Stack, places: Places) -> None:
    page.goto(compared(stack, places))
    chart = page.locator(LOSS)
    expect(chart).to_have_attribute("data-points", "6000")
    # Writing the address begins with removing what it told before.
    page.evaluate("""() => {
        const real = URLSearchParams.prototype.delete;
        window.written = 0;
        URLSearchParams.prototype.delete = function (name) {
            if (name === "search") window.written += 1;
            return real.call(this, name);
        };
    }""")
    for name in ("live", "ended", "live"):
        run_row(page, places[name]).hover()
        expect(run_row(page, places[name])).to_have_class(re.compile("run-near"))
    box = chart.locator(".u-over").bounding_box()
    assert box is not None
    for part in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * part / 20, box["y"] + box["height"] / 2)
    page.mouse.move(0, 0)
    expect(page.locator("[data-table=runs] tr.run-near")).to_have_count(0)
    assert page.evaluate("window.written") == 0
    run_row(page, places["live"]).locator("[data-eye]").click()
    page.wait_for_function("window.written > 0")


def test_the_stars_of_two_devices_have_names_of_their_own(page: Page, stack: Stack, places: Places) -> None:
    page.goto(compared(stack, places))
    page.locator("summary", has_text="Machine").click()
    for device in (0, 1):
        name = f"gpu/{device}/utilisation"
        chart = page.locator(f"[data-testid=chart][data-series~='{name}']")
        chart.scroll_into_view_if_needed()
        star = page.get_by_role("button", name=f"Pin {name}", exact=True)
        expect(star).to_have_count(1)
        expect(chart.get_by_test_id("pin")).to_have_attribute("title", f"Pin {name}")


def test_a_run_keeps_its_colour_if_others_are_hidden_or_left_out(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{compared(stack, places, 'live', 'ended', 'full')}&search=loss")
    lines = {name: run_row(page, places[name]).locator("[data-slot=swatch] line") for name in ("ended", "full")}
    colours = {name: line.get_attribute("stroke") for name, line in lines.items()}
    assert len(set(colours.values())) == 2
    run_row(page, places["full"]).locator("[data-eye]").click()
    page.get_by_role("link", name=f"Leave out live #{places['live']}").click()
    expect(page.get_by_test_id("compared")).to_have_count(2)
    for name, line in lines.items():
        expect(line).to_have_attribute("stroke", str(colours[name]))
    # How the page is shown stays too.
    expect(page).to_have_url(re.compile(f"search=loss.*hidden={places['full']}"))
    dot = page.get_by_test_id("parallel").locator(f"[data-line='{places['ended']}']")
    page.mouse.move(0, 0)
    expect(dot).to_have_attribute("stroke", str(colours["ended"]))
