"""The list of runs on a phone: one sheet has all filters and the order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

SEED = """
from django.contrib.auth.models import User
from runs.models import Membership, Project, Run
project = Project.objects.create(name="Phone", slug="phone")
Membership.objects.create(project=project, user=User.objects.get(username="operator"), role="operator")
for name, state in (("alpha", "finished"), ("beta", "failed"), ("gamma", "finished")):
    Run.objects.create(project=project, name=name, state=state)
"""


@pytest.fixture(scope="module")
def page(chromium: Browser, stack: Stack, places: Places) -> Iterator[Page]:
    stack.manage("shell", "-v", "0", "-c", SEED)
    with operators_page(chromium, stack.address, has_touch=True) as page:
        page.set_viewport_size({"width": 390, "height": 844})
        yield page


def expect_names(page: Page, *names: str) -> None:
    expect(page.locator("[data-testid=run-row] .run-link")).to_have_text(names)


def test_one_sheet_filters_and_sorts(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/?project=phone")
    expect_names(page, "gamma", "beta", "alpha")
    button = page.get_by_role("button", name="Filter and sort")
    sheet = page.get_by_role("dialog", name="Filter and sort")
    expect(page.get_by_label("State", exact=True)).to_be_hidden()
    expect(page.get_by_label("Order", exact=True)).to_be_hidden()
    button.focus()
    page.keyboard.press("Enter")
    expect(sheet).to_be_visible()
    for label in ("State", "Project", "Archived", "Order", "Group by"):
        expect(sheet.get_by_label(label, exact=True)).to_be_visible()
    box = sheet.bounding_box()
    assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] <= 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # The keyboard stays inside, apart from the browser's own controls.
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('body, dialog, dialog *')")
    sheet.get_by_label("Order", exact=True).select_option("name")
    expect_names(page, "alpha", "beta", "gamma")
    sheet.get_by_label("State", exact=True).select_option("finished")
    expect_names(page, "alpha", "gamma")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    expect(button).to_be_focused()
    # What was chosen stays.
    page.reload()
    expect_names(page, "alpha", "gamma")
    button.tap()
    expect(sheet.get_by_label("State", exact=True)).to_have_value("finished")
    sheet.get_by_role("button", name="Show runs").tap()
    expect(sheet).to_be_hidden()
    # A wider window has the filters in a row again.
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(page.get_by_label("State", exact=True)).to_be_visible()
    expect(button).to_be_hidden()
