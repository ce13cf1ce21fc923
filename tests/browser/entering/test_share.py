"""The page of a share link in a browser: it follows the run with the key in its address, and shows the link's end."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Page, Request, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

REVOKE = "from runs.access.tokens import find_token, revoke; revoke(find_token('{key}', ['share']))"


def test_a_guest_follows_by_the_key_of_the_page_until_it_is_revoked(
    stack: Stack, chromium: Browser, places: Places
) -> None:
    made = stack.manage(
        "create_token", "--project", "pages", "--user", "owner", "--scope", "share", "--run", str(places["live"]),
        "--name", "guest",
    )  # fmt: skip
    key = made.stdout.strip()
    context = chromium.new_context(locale="en-GB")
    page = context.new_page()
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if "/api/" in request.url else None)
    page.goto(f"{stack.address}/share/{key}/")
    expect(page.locator("[data-link=live] [data-testid=chart] canvas").first).to_be_visible()
    assert {re.sub(r"/api/(runs/\d+/)?", "", request.url.removeprefix(stack.address)) for request in asked} >= {
        "history/?form=columns", "tickets/",
    }  # fmt: skip
    # The key is in a header of each request, and in no address.
    assert all(request.headers["authorization"] == f"Bearer {key}" for request in asked)
    assert not any(key in request.url for request in asked)
    assert_both_know_who_watches(stack, chromium, places, page)
    stack.manage("shell", "-v", "0", "-c", REVOKE.format(key=key))
    expect(page.get_by_test_id("trouble")).to_have_text(re.compile("This link has expired or was revoked"))
    expect(page).to_have_url(f"{stack.address}/share/{key}/")
    context.close()


def assert_both_know_who_watches(stack: Stack, chromium: Browser, places: Places, guests: Page) -> None:
    """Open the run as a member too: the guest sees how many people watch, and the member who they are."""
    expect(guests.get_by_test_id("watchers")).to_have_text("1 watching")
    with operators_page(chromium, stack.address) as members:
        members.goto(f"{stack.address}/runs/{places['live']}/")
        watchers = members.get_by_test_id("watchers")
        expect(watchers.locator("summary")).to_have_text("2 watching")
        watchers.locator("summary").click()
        expect(watchers.locator("li")).to_have_text(["Operator Lab", "by share links: 1"])
        expect(guests.get_by_test_id("watchers")).to_have_text("2 watching")
    expect(guests.get_by_test_id("watchers")).to_have_text("1 watching")
