"""A run page that is opened while the database is unavailable."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, expect

from tests.outage.taken_away import database_file_taken_away
from tests.outage.test_last_known import STEPS, run, stack
from tests.outage.test_pages import TRAININGS_GO_ON
from tests.support.browser import log_in
from tests.support.locked_database import write_locked
from tests.support.stack import Stack

__all__ = ["run", "stack"]

# The script of the page adds the total number of steps.
AT_END = re.compile(rf"^{STEPS}( / {STEPS})?$")


def test_a_run_page_opened_during_an_outage_shows_its_charts_and_loads_again(
    stack: Stack, run: int, chromium: Browser
) -> None:
    # Not `operators_page`: the browser's console lists each answer 503.
    with chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB") as context:
        page = context.new_page()
        log_in(page, stack.address, "operator", "operator")
        page.goto(f"{stack.address}/runs/{run}/")
        step = page.get_by_test_id("step")
        chart = page.locator("#charts .chart-card canvas").first
        expect(chart).to_be_visible()
        expect(step).to_have_text(AT_END)
        with database_file_taken_away(stack):
            page.reload()
            known = page.get_by_test_id("last-known")
            expect(known).to_contain_text(TRAININGS_GO_ON)
            expect(chart).to_be_visible()
            expect(step).to_have_text(AT_END)
            expect(page.get_by_test_id("state")).to_have_attribute("data-state", "finished")
        expect(known).to_have_count(0)
        expect(chart).to_be_visible()


def test_a_run_page_opened_while_the_database_is_locked_says_so_and_connects_afterwards(
    stack: Stack, run: int, chromium: Browser
) -> None:
    with chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB") as context:
        page = context.new_page()
        log_in(page, stack.address, "operator", "operator")
        with write_locked(stack, run):
            page.goto(f"{stack.address}/runs/{run}/")
            expect(page.get_by_test_id("step")).to_have_text(AT_END)
            expect(page.locator("#trouble")).to_contain_text("The database is busy or unavailable")
            expect(page.get_by_test_id("link")).to_have_attribute("data-link", "reconnecting")
        expect(page.get_by_test_id("link")).to_have_attribute("data-link", re.compile("live|database"))
        expect(page.locator("#trouble")).to_be_hidden()
