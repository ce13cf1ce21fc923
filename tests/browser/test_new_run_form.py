"""The forms of a new run and of a branch, filled in by a person."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.conftest import Places
from tests.support.browser import log_in
from tests.support.stack import Stack, rows

RECIPE = "switches"
PARAMETERS = [
    {"name": "loud", "kind": "bool", "default": False, "help": ""},
    {"name": "fast", "kind": "bool", "default": True, "help": ""},
]
PUBLISH = f"""
from runs.models import Recipe
Recipe.objects.create(spec={RECIPE!r}, title="Switches", parameters={PARAMETERS!r})
"""


def test_a_checkbox_is_what_the_person_made_of_it(chromium: Browser, stack: Stack) -> None:
    stack.manage("shell", "-v", "0", "-c", PUBLISH)
    page = chromium.new_context().new_page()
    log_in(page, stack.address, "operator", "operator")
    page.goto(f"{stack.address}/runs/new/?recipe={RECIPE}")
    loud, fast = page.locator("[name=p-loud]"), page.locator("[name=p-fast]")
    expect(loud).not_to_be_checked()
    expect(fast).to_be_checked()
    loud.check()
    fast.uncheck()
    page.get_by_test_id("create").click()
    page.wait_for_url(lambda url: "/new/" not in url)
    number = page.url.rstrip("/").rsplit("/", 1)[1]
    page.close()
    (run,) = rows(stack, "SELECT parameters FROM runs_run WHERE id = ?", int(number))
    assert json.loads(run["parameters"]) == {"loud": True, "fast": False}
    rows(stack, "UPDATE runs_run SET recipe_id = NULL WHERE id = ? RETURNING id", int(number))
    rows(stack, "DELETE FROM runs_recipe WHERE spec = ? RETURNING id", RECIPE)


def test_a_sheet_asks_what_a_branch_changes_and_leads_to_it(
    chromium: Browser, stack: Stack, places: Places, screenshots: Path
) -> None:
    page = chromium.new_context().new_page()
    log_in(page, stack.address, "operator", "operator")
    page.goto(f"{stack.address}/runs/{places['ended']}/")
    row = page.locator(f"[data-checkpoint='{places['origin']}']")
    row.get_by_test_id("branch").click()
    sheet = page.get_by_test_id("branch-sheet")
    rate = sheet.locator("[name=k-1]")
    expect(rate).to_have_value("0.003")
    rate.fill("7")
    sheet.locator("[name=name]").fill("calmer")
    sheet.get_by_test_id("branch-only").click()
    expect(sheet.locator(".form-error")).to_be_visible()
    expect(sheet.locator("[name=name]")).to_have_value("calmer")
    rate.fill("0.0005")
    page.screenshot(path=screenshots / "branch-sheet.png")
    sheet.get_by_test_id("branch-only").click()
    expect(page.get_by_test_id("branched-from")).to_contain_text("at step 2400")
    expect(page.locator("h1")).to_contain_text("calmer")
    family = page.get_by_test_id("family-member")
    expect(family).to_have_count(3)
    expect(family.nth(2)).to_contain_text("learning_rate 0.003 → 0.0005")
    expect(page.get_by_test_id("command-row")).to_contain_text("Branch #")
    page.get_by_test_id("family").scroll_into_view_if_needed()
    page.screenshot(path=screenshots / "branch-family.png")
    number = page.url.rstrip("/").rsplit("/", 1)[1]
    page.close()
    rows(stack, "UPDATE runs_run SET archived_at = created_at WHERE id = ? RETURNING id", int(number))


def test_a_sheet_runs_a_run_again_and_leads_to_it_and_that_to_the_comparison(
    chromium: Browser, stack: Stack, places: Places, screenshots: Path
) -> None:
    page = chromium.new_context().new_page()
    log_in(page, stack.address, "operator", "operator")
    page.goto(f"{stack.address}/runs/{places['ended']}/")
    page.get_by_test_id("again").click()
    sheet = page.get_by_test_id("branch-sheet")
    expect(sheet.get_by_role("heading", name="Run again")).to_be_visible()
    expect(sheet.locator("[name=interventions]")).to_be_checked()
    expect(sheet.locator("[name=source]")).to_have_count(0)
    sheet.locator("[name=name]").fill("once more")
    page.screenshot(path=screenshots / "again-sheet.png")
    sheet.get_by_test_id("again-only").click()
    expect(page.locator("h1")).to_contain_text("once more")
    compare = page.get_by_test_id("compare-original")
    page.screenshot(path=screenshots / "again-run.png")
    number = page.url.rstrip("/").rsplit("/", 1)[1]

    # The list has it for one run alone.
    page.goto(f"{stack.address}/?q=once+more")
    again = page.get_by_test_id("selection-bar").get_by_test_id("again")
    expect(again).to_be_hidden()
    page.get_by_test_id("run-row").first.get_by_role("checkbox").check()
    expect(again).to_be_visible()
    again.click()
    expect(page.get_by_test_id("branch-sheet").locator("form")).to_have_attribute("action", f"/runs/{number}/again/")
    page.screenshot(path=screenshots / "again-list.png")

    page.goto(f"{stack.address}/runs/{number}/")
    compare.click()
    page.wait_for_url(lambda url: f"run={places['ended']}&run={number}" in url)
    page.close()
    rows(stack, "UPDATE runs_run SET archived_at = created_at WHERE id = ? RETURNING id", int(number))
