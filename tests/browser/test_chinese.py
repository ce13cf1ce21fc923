"""The portal in Chinese as a reader sees it: chosen in the menu, remembered, also in scripts, and on a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import log_in
from tests.support.stack import Stack, seed_stack

PHONE = {"width": 375, "height": 740}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Stack, dict[str, Any]]]:
    """A separate portal, because the created project has a fixed slug."""
    with Stack() as stack:
        seed_stack(stack)
        stack.manage("recipes", "--publish")
        stack.start_redis()
        stack.start_web()
        done = stack.manage("shell", "-v", "0", "-c", "from tests.browser.seed import seed; seed()")
        yield stack, json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport=DESK, locale="en-GB")
    yield context.new_page()
    context.close()


def test_a_reader_chooses_chinese_and_watches_a_run(
    places: tuple[Stack, dict[str, Any]], page: Page, screenshots: Path
) -> None:
    stack, seeded = places
    log_in(page, stack.address, "operator", "operator")
    page.locator("details.menu summary").click()
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    expect(page.locator("h1")).to_have_text("运行")
    expect(page.locator("main")).to_contain_text("运行中")
    page.screenshot(path=screenshots / "chinese-runs.png")

    page.goto(f"{stack.address}/runs/{seeded['live']}/")
    expect(page.locator("[data-link=live] [data-testid=chart] canvas").first).to_be_visible()
    expect(page.locator("#link")).to_have_text("实时")
    expect(page.get_by_test_id("state")).to_have_text("运行中")
    expect(page.locator("#epoch-table")).to_contain_text("验证损失")
    page.screenshot(path=screenshots / "chinese-run.png", full_page=True)

    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.screenshot(path=screenshots / "chinese-phone-run.png", full_page=True)
    for address in ("/", "/projects/pages/members/", "/projects/pages/tokens/", "/runs/new/"):
        page.goto(stack.address + address)
        expect(page.locator("h1").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
        page.screenshot(path=screenshots / f"chinese-phone{address.replace('/', '-').rstrip('-')}.png", full_page=True)


def test_who_has_a_link_chooses_chinese_without_an_account(
    places: tuple[Stack, dict[str, Any]], page: Page, screenshots: Path
) -> None:
    stack, seeded = places
    page.set_viewport_size(PHONE)
    page.goto(f"{stack.address}/share/{seeded['share']}/")
    page.get_by_role("button", name="简体中文").click()
    expect(page).to_have_url(f"{stack.address}/share/{seeded['share']}/")
    # Charts are drawn when they come into sight.
    page.locator("[data-link=live] [data-testid=chart]").first.scroll_into_view_if_needed()
    expect(page.locator("[data-testid=chart] canvas").first).to_be_visible()
    expect(page.locator("#link")).to_have_text("实时")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.screenshot(path=screenshots / "chinese-phone-share.png")
    page.goto(f"{stack.address}/login/")
    expect(page.locator("h1")).to_have_text("登录")
    page.screenshot(path=screenshots / "chinese-phone-login.png")
