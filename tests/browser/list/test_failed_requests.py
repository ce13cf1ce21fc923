"""Requests that fail in a browser: a sentence with what to do, and everything that was entered is still there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import Places
from tests.support.browser import log_in
from tests.support.stack import Stack

NO_CONNECTION = "There is no connection to the portal."
RESTARTING = "The portal is being restarted, or its proxy cannot reach it."
TRYING = "The portal does not answer; trying again."


@pytest.fixture
def page(stack: Stack, chromium: Browser, places: Places) -> Iterator[Page]:
    """A page of the operator, whose console has the errors of the requests that fail here."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB") as context:
        page = context.new_page()
        log_in(page, stack.address, "operator", "operator")
        yield page


def bad_gateway(route: Route) -> None:
    route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")


def no_answer(route: Route) -> None:
    route.abort("connectionfailed")


def test_a_tag_that_could_not_be_sent_is_still_in_its_field(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/runs/{places['live']}/")
    field = page.locator("#tags input")
    expect(field).to_be_enabled()
    field.fill("night")
    for answer, sentence in ((no_answer, NO_CONNECTION), (bad_gateway, RESTARTING)):
        page.route("**/tags/", answer)
        field.press("Enter")
        expect(page.locator(".toast-danger[data-subject=tags]")).to_contain_text(sentence)
        expect(field).to_have_value("night")
        page.unroute("**/tags/")


def test_the_menu_of_columns_says_why_it_is_empty_and_fills_on_request(
    page: Page, stack: Stack, places: Places
) -> None:
    page.goto(f"{stack.address}/?project=pages&column=host")
    page.route("**/*fragment=columns*", bad_gateway)
    page.get_by_test_id("columns").locator("summary").click()
    menu = page.locator("#column-menu")
    expect(menu.get_by_role("alert")).to_contain_text(RESTARTING)
    page.unroute("**/*fragment=columns*")
    page.route("**/*fragment=columns*", no_answer)
    menu.get_by_role("button", name="Try again").click()
    expect(menu.get_by_role("alert")).to_contain_text(NO_CONNECTION)
    # The list still has its columns.
    expect(menu.locator("input[name=column]").last).to_have_value("host")
    page.unroute("**/*fragment=columns*")
    menu.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("Find a column")).to_be_focused()
    expect(menu.get_by_role("button", name="Try again")).to_have_count(0)


def test_tags_for_several_runs_stay_in_their_sheet(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/?project=pages")
    page.get_by_role("checkbox", name=f"Select live #{places['live']}").check()
    page.route("**/several/", no_answer)
    page.locator("#compare [data-do=tag]").click()
    sheet = page.locator("#tag-runs")
    sheet.locator("[name=add]").fill("night")
    sheet.locator("[value=send]").click()
    expect(page.locator(".toast-danger[data-subject=selected]")).to_contain_text(NO_CONNECTION)
    page.locator("#compare [data-do=tag]").click()
    expect(sheet.locator("[name=add]")).to_have_value("night")
    page.keyboard.press("Escape")
    expect(sheet.locator("[name=add]")).to_have_value("")


@pytest.mark.parametrize("address", ["/?project=pages", "/projects/pages/"])
def test_a_list_that_refreshes_itself_says_that_it_tries_again(
    page: Page, stack: Stack, places: Places, address: str
) -> None:
    page.goto(f"{stack.address}{address}")
    page.route("**/*fragment=*", bad_gateway)
    expect(page.locator("#refreshed")).to_have_text(TRYING)
    page.unroute("**/*fragment=*")
    expect(page.locator("#refreshed")).to_have_text("")


def test_a_comparison_of_ended_runs_loads_the_curves_that_failed(page: Page, stack: Stack, places: Places) -> None:
    page.route("**/compare/curves/*", no_answer)
    page.goto(f"{stack.address}/runs/compare/?run={places['ended']}")
    expect(page.locator("#refreshed")).to_have_text(TRYING)
    page.unroute("**/compare/curves/*")
    loss = page.locator('[data-testid=chart][data-series~="train/loss"]')
    expect(loss).to_have_attribute("aria-label", re.compile("^train/loss: 0.004958;"))
    expect(page.locator("#refreshed")).to_have_text("")


def test_running_a_run_again_says_that_there_is_no_connection(page: Page, stack: Stack, places: Places) -> None:
    page.goto(f"{stack.address}/runs/{places['ended']}/")
    page.route("**/again/", no_answer)
    page.get_by_test_id("again").click()
    expect(page.locator(".toast-danger")).to_contain_text(NO_CONNECTION)
