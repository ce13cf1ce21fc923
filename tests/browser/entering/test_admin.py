"""The admin in a browser: its theme works under the Content-Security-Policy, and no page violates it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Places
from tests.support.browser import Complaints, log_in
from tests.support.stack import Stack

PAGES = (
    "", "runs/run/", "runs/run/{live}/change/", "runs/run/add/", "runs/project/", "runs/recipe/", "runs/host/",
    "runs/membership/", "runs/accesstoken/", "runs/accesstoken/add/", "runs/invite/", "auth/user/", "auth/user/add/",
    "auth/user/{admin}/change/", "axes/accessattempt/", "axes/accesslog/", "runs/alert/", "runs/alertdestination/",
    "runs/run/",
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_the_policy(stack: Stack, chromium: Browser, places: Places, scheme: str) -> None:
    context = chromium.new_context(locale="en-GB", color_scheme=scheme)
    page = context.new_page()
    complaints = Complaints(page)
    log_in(page, stack.address, "admin", "admin")
    for address in PAGES:
        answer = page.goto(f"{stack.address}/admin/{address.format(live=places['live'], admin=1)}")
        assert answer is not None and answer.status == 200, address
        assert complaints.lines == [], address
    # Elements that Alpine did not process stay cloaked.
    expect(page.locator("[x-cloak]")).to_have_count(0)
    context.close()
