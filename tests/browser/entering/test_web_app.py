"""The browser can install the portal, and a page that is older than the portal offers to reload."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import Places
from tests.support.browser import log_in
from tests.support.stack import Stack, wait_for


@pytest.fixture
def page(stack: Stack, chromium: Browser) -> Iterator[Page]:
    with chromium.new_context(locale="en-GB") as context:
        page = context.new_page()
        log_in(page, stack.address, "operator", "operator")
        yield page


def from_older_build(route: Route) -> None:
    """Let the page itself, whose request this is, be older than the portal."""
    response = route.fetch()
    text, found = re.subn('data-build="[^"]+"', 'data-build="older"', response.text())
    assert found == 1, text
    route.fulfill(response=response, body=text)


def test_chromium_would_install_it(page: Page, stack: Stack) -> None:
    page.goto(stack.address)
    session = page.context.new_cdp_session(page)
    found = session.send("Page.getAppManifest")
    assert found["url"] == f"{stack.address}/manifest.webmanifest" and found["errors"] == []
    errors: list[object] = []

    def can_be_installed() -> bool:
        # A context of Playwright is incognito, which is the only obstacle.
        errors[:] = session.send("Page.getInstallabilityErrors")["installabilityErrors"]
        return {error["errorId"] for error in errors} <= {"in-incognito"}  # type: ignore[index]

    wait_for(can_be_installed, lambda: f"no obstacle: {errors}")
    for icon in page.evaluate("async url => (await (await fetch(url)).json()).icons", found["url"]):
        width, height = page.evaluate(
            """async src => { const image = new Image(); image.src = src; await image.decode();
            return [image.naturalWidth, image.naturalHeight]; }""",
            icon["src"],
        )
        assert icon["sizes"] in ("any", f"{width}x{height}")


@pytest.mark.parametrize("name", ["list", "project", "run"])
def test_a_page_offers_to_reload_after_an_upgrade_of_the_portal(
    page: Page, stack: Stack, places: Places, name: str
) -> None:
    path, requests = {
        "list": ("/", "**/*fragment=*"),
        "project": ("/projects/pages/", "**/*fragment=queue*"),
        "run": (f"/runs/{places['live']}/", "**/api/tickets/"),
    }[name]
    address = f"{stack.address}{path}"
    offer = page.get_by_test_id("upgrade")
    with page.expect_response(requests):
        page.goto(address)
    # The portal that answers is still the one that sent the page.
    expect(offer).to_have_count(0)
    page.route(address, from_older_build)
    page.reload()
    expect(offer).to_contain_text("The portal was upgraded.")
    page.unroute(address)
    with page.expect_response(requests):
        offer.get_by_role("button", name="Reload").click()
    expect(offer).to_have_count(0)
