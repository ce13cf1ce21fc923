"""The position of a queued run, as its page shows it while it waits."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import log_in
from tests.support.stack import Stack, create_run, rows

HOST = "place-host"


def keeps_the_queue_as_its_reader_left_it(page: Page) -> None:
    """Runs wait, so the queue is open in the list of runs, until its reader folds it."""
    strip = page.get_by_test_id("queue-strip")
    expect(strip).to_have_attribute("open", "")
    expect(strip.locator("summary")).to_contain_text(re.compile(r"\d+ training · [1-9]\d* waiting"))
    strip.locator("summary").click()
    page.reload()
    expect(strip).not_to_have_attribute("open", "")
    strip.locator("summary").click()
    expect(strip.get_by_test_id("queue-waiting").first).to_be_visible()


def test_the_place_moves_up_while_one_looks_and_goes_with_the_queue(chromium: Browser, stack: Stack) -> None:
    waiting = {"state": "queued", "queued_host": HOST, "device": "cuda:1"}
    first, second = (
        create_run(stack, f"waits {number}", queued_at=f"2026-01-01 00:00:0{number}+00:00", **waiting)
        for number in range(2)
    )
    page = chromium.new_page()
    log_in(page, stack.address, "viewer", "viewer")
    page.goto(f"{stack.address}/runs/{second}/")
    place = page.get_by_test_id("place")
    expect(place).to_have_text(f"2nd in line for cuda:1 on {HOST}, after #{first}")
    page.goto(f"{stack.address}/")
    expect(page.locator(f"[data-run='{second}']").get_by_test_id("place")).to_have_text("2nd in line")
    keeps_the_queue_as_its_reader_left_it(page)
    page.goto(f"{stack.address}/runs/{second}/")
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    # This run does not change, only the queue does.
    rows(stack, "UPDATE runs_run SET state = 'running' WHERE id = ? RETURNING id", first)
    expect(place).to_have_text(f"1st in line for cuda:1 on {HOST}")
    rows(stack, "UPDATE runs_run SET given_devices = '[\"GPU-b\"]' WHERE id = ? RETURNING id", second)
    expect(place).to_be_hidden()
    page.close()
    rows(stack, "UPDATE runs_run SET state = 'created' WHERE id IN (?, ?) RETURNING id", first, second)
