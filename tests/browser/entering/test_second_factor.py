"""The second factor in a browser: set up and used for a login; its pages in light, in dark and on a phone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_axe import DESK, PHONE, violations
from tests.support.browser import Complaints, log_in
from tests.support.stack import Stack, seed_stack


@pytest.fixture(scope="module")
def asking() -> Iterator[Stack]:
    """A portal that offers the second factor."""
    with Stack(STEERSMAN_SECOND_FACTOR="totp") as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        yield stack


def look(page: Page, title: str) -> None:
    """Check the current page as everybody sees it."""
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible(timeout=60_000)
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        assert (title, scheme, violations(page)) == (title, scheme, [])
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], title
    page.set_viewport_size(DESK)


def test_it_is_set_up_and_logged_in_with(asking: Stack, chromium: Browser) -> None:
    page = chromium.new_context(viewport=DESK, locale="en-GB").new_page()
    complaints = Complaints(page)
    log_in(page, asking.address, "admin", "admin")
    page.goto(f"{asking.address}/second-factor/")
    look(page, "Second factor")
    page.get_by_role("link", name="Set up an authenticator app").click()
    look(page, "Confirm that it is you")
    page.fill("input[name=password]", "admin")
    page.get_by_role("button", name="Confirm").click()
    look(page, "Set up an authenticator app")
    app = pyotp.TOTP(page.input_value("#app-key"))
    assert page.locator("img.qr").evaluate("image => image.naturalWidth > 100")
    page.fill("input[name=code]", app.at(int(time.time())))
    page.get_by_role("button", name="Switch on").click()
    look(page, "Recovery codes")
    recovery = page.get_by_test_id("recovery-codes").inner_text().split()
    page.get_by_role("link", name="Make new ones").click()
    look(page, "Make new recovery codes")
    page.goto(f"{asking.address}/second-factor/app/remove/")
    look(page, "Remove the authenticator app")

    page.context.clear_cookies()
    page.goto(f"{asking.address}/admin/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "admin")
    page.get_by_role("button", name="Log in").click()
    look(page, "Second factor")
    page.fill("input[name=code]", recovery[0])
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{asking.address}/admin/", timeout=60_000)
    assert complaints.lines == []
    page.context.close()
