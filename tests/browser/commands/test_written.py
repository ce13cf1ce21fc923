"""Notes and reasons in the command log: Markdown of the portal as HTML, the text itself until it arrives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from tests.support.browser import Complaints, log_in
from tests.support.stack import Stack, create_run

NOTE = "**bold** and [a page](https://example.org/a)\n\n- one\n- two"
HOSTILE = (
    '<img src=x onerror="window.harmed=1"> [x](javascript:window.harmed=1) <script>window.harmed=1</script>\n'
    "![x](https://tracker.example/pixel.png)\n\n" + ">" * 60 + " deep"
)


@pytest.fixture
def page(chromium: Browser, stack: Stack) -> Iterator[Page]:
    """The page of a run that has ended, to which an operator may still send notes."""
    run = create_run(stack, "noted", state="finished", step=7, attempt=1)
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    complaints = Complaints(page)
    log_in(page, stack.address, "operator", "operator")
    page.goto(f"{stack.address}/runs/{run}/")
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    yield page
    assert not [line for line in complaints.lines if "commands/html" not in line]
    context.close()


def send_note(page: Page, text: str) -> None:
    page.locator("h1").click()
    page.keyboard.press("n")
    page.locator("#note-body").fill(text)
    page.keyboard.press("Control+Enter")


def newest(page: Page) -> Locator:
    return page.get_by_test_id("command-row").first


def requests_of(page: Page) -> list[Request]:
    """Return a list of the requests for HTML, which grows."""
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if "/commands/html/" in request.url else None)
    return asked


def test_a_note_that_is_sent_live_is_shown_as_markdown_and_fetched_once(page: Page) -> None:
    asked = requests_of(page)
    send_note(page, "nothing special, at 3:05")
    expect(newest(page)).to_contain_text("Note: nothing special, at 3:05")
    expect(newest(page).locator("[data-slot=state]")).to_have_text("applied")
    send_note(page, NOTE)
    row = newest(page)
    expect(row.locator(".command-log-what")).to_have_text("Note")
    expect(row.locator(".written strong")).to_have_text("bold")
    expect(row.locator(".written li")).to_have_text(["one", "two"])
    link = row.get_by_role("link", name="a page")
    expect(link).to_have_attribute("href", "https://example.org/a")
    expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
    row.evaluate("node => (node.isTheSame = true)")
    send_note(page, "_later_")
    expect(newest(page).locator(".written em")).to_have_text("later")
    same = page.get_by_test_id("command-row").filter(has_text="bold")
    assert same.evaluate("node => node.isTheSame === true"), "a row that did not change is kept"
    assert [request.url.count("command=") for request in asked] == [1, 1]


def test_the_focus_in_the_log_stays_while_other_rows_arrive(page: Page) -> None:
    send_note(page, NOTE)
    link = newest(page).get_by_role("link", name="a page")
    expect(link).to_be_visible()
    link.focus()
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.get_by_test_id("run")).to_have_attribute("data-link", "live")
    send_note(other, "_later_")
    expect(newest(page).locator(".written em")).to_have_text("later")
    assert page.evaluate("document.activeElement.textContent") == "a page"
    other.close()


def test_hostile_markdown_is_harmless(page: Page) -> None:
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if "tracker.example" in request.url else None)
    send_note(page, HOSTILE)
    written = newest(page).locator(".written")
    expect(written).to_contain_text("<script>window.harmed=1</script>")
    expect(written.locator("script, img, style, iframe, [onerror], [href^='javascript:']")).to_have_count(0)
    expect(written.get_by_role("link")).to_have_attribute("href", "https://tracker.example/pixel.png")
    assert page.evaluate("window.harmed") is None and not outside


def test_the_text_is_shown_with_its_lines_if_the_portal_gives_no_html(page: Page) -> None:
    failed: list[str] = []

    def fail(route: Route) -> None:
        failed.append(route.request.url)
        route.fulfill(status=503, json={"error": "later"})

    page.route("**/commands/html/**", fail)
    send_note(page, NOTE)
    what = newest(page).locator(".command-log-what")
    expect(newest(page).locator("[data-slot=state]")).to_have_text("applied")
    with page.expect_response("**/commands/html/**"):
        page.reload()
    expect(what).to_have_text(f"Note: {NOTE}", use_inner_text=True)
    expect(newest(page).locator(".written")).to_have_count(0)
    # Nothing asks again at once.
    expect(page.get_by_test_id("run")).to_have_attribute("data-link", "live")
    send_note(page, "**more**")
    expect(newest(page).locator("[data-slot=state]")).to_have_text("applied")
    expect(what).to_have_text("Note: **more**")
    assert len(failed) <= 2
    page.unroute("**/commands/html/**")
    page.reload()
    expect(newest(page).locator(".written strong")).to_have_text("more")
