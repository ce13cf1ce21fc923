"""Commands that meet a busy database: the page sends them again, in order, until they are stored or cancelled."""

from __future__ import annotations

from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.browser import Complaints, log_in
from tests.support.locked_database import write_locked
from tests.support.stack import Stack, create_run, rows


def send_note(page: Page, text: str) -> None:
    page.locator("h1").click()
    page.keyboard.press("n")
    page.locator("#note-body").fill(text)
    page.keyboard.press("Control+Enter")


def card(page: Page, text: str) -> Locator:
    return page.get_by_test_id("command").filter(has_text=text)


def row(page: Page, text: str) -> Locator:
    return page.get_by_test_id("command-row").filter(has_text=text)


def test_a_command_waits_for_a_busy_database(chromium: Browser, stack: Stack) -> None:
    run = create_run(stack, "busy", state="finished", step=7, attempt=1)
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    complaints = Complaints(page)
    log_in(page, stack.address, "operator", "operator")
    page.goto(f"{stack.address}/runs/{run}/")
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    with write_locked(stack, run):
        send_note(page, "first")
        expect(card(page, "first")).to_contain_text("the database is busy or unavailable")
        send_note(page, "second")
        expect(card(page, "second")).to_contain_text("the page tries again until the command is stored")
        send_note(page, "third")
        card(page, "third").get_by_role("button", name="Cancel").click()
        expect(card(page, "third")).to_have_count(0)
        expect(row(page, "third")).to_have_count(0)
        send_note(page, "fourth")
        row(page, "fourth").get_by_role("button", name="Cancel").click()
        expect(row(page, "fourth")).to_have_count(0)
        expect(row(page, "first")).to_have_attribute("data-state", "sending")
        expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    for text in ("first", "second"):
        expect(row(page, text).locator("[data-slot=state]")).to_have_text("applied")
    found = rows(stack, "SELECT arguments FROM runs_command WHERE run_id = ? ORDER BY sent_at", run)
    assert [("first" in str(each), "second" in str(each)) for each in found] == [(True, False), (False, True)]
    assert not complaints.lines
    context.close()
