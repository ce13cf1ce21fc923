"""Runs compared in a browser: charts of all metrics, hiding and pointing at runs, search, zoom, and the address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

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
