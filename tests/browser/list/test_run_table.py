"""The list of runs in a browser: sorting, searching and changing columns without a new page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Places
from tests.support.browser import operators_page
from tests.support.stack import Stack

SEED = """
from django.contrib.auth.models import User
from runs.models import Membership, Project, Run, Series
project = Project.objects.create(name="Table", slug="table")
Membership.objects.create(project=project, user=User.objects.get(username="operator"), role="operator")
for name, rate, accuracy in (("slow", 0.001, 0.9), ("usual", 0.01, 0.95), ("fast", 0.1, 0.2)):
    run = Run.objects.create(project=project, name=name, parameters={"lr": rate}, state="finished")
    Series.objects.create(run=run, name="val/accuracy", last_value=accuracy)
"""


@pytest.fixture(scope="module")
def page(chromium: Browser, stack: Stack, places: Places) -> Iterator[Page]:
    stack.manage("shell", "-v", "0", "-c", SEED)
    with operators_page(chromium, stack.address) as page:
        yield page


def expect_names(page: Page, *names: str) -> None:
    expect(page.locator("[data-testid=run-row] .run-link")).to_have_text(names)


def test_a_person_finds_the_best_of_a_sweep(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/?project=table")
    rows = page.get_by_test_id("run-row")
    expect(rows).to_have_count(3)
    page.evaluate("window.wasHere = true")

    page.get_by_test_id("columns").locator("summary").click()
    page.get_by_label("Find a column").fill("acc")
    expect(page.locator("#column-menu label", has_text="Duration")).to_be_hidden()
    page.get_by_role("group", name="Last values").get_by_label("val/accuracy").check()
    page.get_by_label("Find a column").fill("lr")
    page.get_by_label("lr", exact=True).check()
    page.keyboard.press("Escape")
    head = page.locator("thead a", has_text="val/accuracy")
    expect(head).to_be_visible()
    head.click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("val/accuracy")
    expect(rows.first).to_contain_text("usual")
    expect_names(page, "usual", "slow", "fast")
    # The focus stays, and the key reverses the order.
    expect(head).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("val/accuracy")
    expect_names(page, "fast", "slow", "usual")

    page.get_by_role("searchbox", name="Search").fill("lr < 0.05 val/accuracy > 0.5")
    expect(rows).to_have_count(2)
    chip = page.locator(".chip", has_text="lr < 0.05")
    chip.click()
    expect(chip).to_have_count(0)
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("val/accuracy > 0.5")
    expect_names(page, "slow", "usual")
    assert page.evaluate("window.wasHere") is True

    # The address has everything.
    page.reload()
    expect(rows).to_have_count(2)
    expect_names(page, "slow", "usual")
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("val/accuracy")

    page.get_by_role("searchbox", name="Search").fill("lrr > 0.5")
    expect(page.get_by_role("alert")).to_contain_text("“lrr” is not a column")

    page.get_by_test_id("columns").locator("summary").click()
    page.get_by_role("button", name="Default columns").click()
    expect(page.locator("thead a", has_text="Duration")).to_be_visible()
    expect(head).to_have_count(0)


def test_groups_unfold_by_keyboard_and_lead_to_their_runs(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/?project=table")
    page.evaluate("window.wasHere = true")
    page.get_by_label("Group by").select_option("parameter:lr")
    groups = page.get_by_test_id("run-group")
    expect(groups).to_have_count(3)
    expect(groups.first).to_contain_text("0.001")
    expect(page.get_by_test_id("run-row")).to_have_count(0)
    link = groups.nth(1).get_by_role("link")
    link.focus()
    page.keyboard.press("Enter")
    expect(link).to_have_attribute("aria-expanded", "true")
    expect(link).to_be_focused()
    expect_names(page, "usual")
    page.reload()
    expect(page.get_by_label("Group by")).to_have_value("parameter:lr")
    expect_names(page, "usual")
    page.evaluate("window.wasHere = true")
    link.click()
    expect(page.get_by_test_id("run-row")).to_have_count(0)
    expect(link).to_have_attribute("aria-expanded", "false")
    page.get_by_label("Group by").select_option("")
    expect(page.get_by_test_id("run-row")).to_have_count(3)
    assert page.evaluate("window.wasHere") is True


def test_tags_are_given_on_the_page_of_a_run_and_found_in_the_list(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/?project=table")
    page.locator(".run-link", has_text="usual").click()
    tags = page.get_by_test_id("tags")
    field = page.get_by_label("Add a tag")
    field.fill("Baseline, try 3")
    field.press("Enter")
    expect(tags.locator(".tag")).to_have_text(["baseline×", "try 3×"])
    expect(field).to_have_value("")
    tags.get_by_label("Remove the tag baseline").press("Enter")
    expect(tags.locator(".tag")).to_have_text(["try 3×"])
    expect(field).to_be_focused()
    page.reload()
    expect(tags.locator(".tag")).to_have_text(["try 3×"])
    tags.get_by_role("link", name="try 3").click()
    expect(page.get_by_test_id("run-row")).to_have_count(1)

    page.goto(f"{stack.address}/?project=table")
    page.evaluate("window.wasHere = true")
    page.locator(".tag", has_text="try 3").click()
    expect(page.locator(".chip")).to_contain_text(['tag = "try 3"'])
    expect(page.get_by_role("searchbox", name="Search")).to_have_value('tag = "try 3"')
    expect_names(page, "usual")
    assert page.evaluate("window.wasHere") is True


def test_runs_are_ticked_and_changed_together(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/?project=table&sort=name")
    bar = page.get_by_test_id("selection-bar")
    expect(bar.get_by_role("button", name="Archive")).to_be_hidden()
    boxes = page.locator("input[name=run]")
    # By keyboard: a row, and all since then.
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("X")
    expect(bar).to_contain_text("3 selected")
    all_boxes = page.get_by_label("Select all runs of this page")
    expect(all_boxes).to_be_checked()
    all_boxes.uncheck()
    # By mouse: Shift extends, and a tick in between can be removed.
    boxes.nth(0).check()
    boxes.nth(2).click(modifiers=["Shift"])
    boxes.nth(1).uncheck()
    expect(bar).to_contain_text("2 selected")
    expect(all_boxes).to_have_js_property("indeterminate", True)

    bar.get_by_role("button", name="Tag…").click()
    sheet = page.get_by_role("dialog")
    expect(sheet).to_contain_text("Tags of 2 runs")
    sheet.get_by_label("Add").fill("sweep, b2")
    sheet.get_by_label("Add").press("Enter")
    expect(page.locator("#toasts")).to_contain_text("The tags of 2 of 2 runs are changed.")
    expect(page.get_by_test_id("run-row").nth(0).locator(".tag")).to_have_text(["b2", "sweep"])
    expect(bar).not_to_contain_text("selected")

    running = "from runs.models import Run; Run.objects.filter(name='usual').update(state='running')"
    stack.manage("shell", "-v", "0", "-c", running)
    page.reload()
    all_boxes.check()
    bar.get_by_role("button", name="Archive").click()
    told = page.get_by_test_id("bulk-told")
    expect(told).to_contain_text("2 of 3 runs are archived.")
    expect(told).to_contain_text("stop it first, then archive it.")
    expect(told).to_be_focused()
    expect(bar).to_contain_text("1 selected")
    expect(page.get_by_test_id("run-row")).to_have_count(1)
    expect_names(page, "usual")
    bar.get_by_role("button", name="Clear").click()

    page.goto(f"{stack.address}/?project=table&sort=name&archived=on")
    all_boxes.check()
    with page.expect_download() as download:
        bar.locator("summary").click()
        bar.get_by_role("link", name="Epochs (CSV)").click()
    assert download.value.suggested_filename == "runs-epochs.csv"
    bar.get_by_role("button", name="Take out of the archive").click()
    expect(page.locator("#toasts")).to_contain_text("2 of 2 runs were taken out of the archive.")
    expect(page.get_by_test_id("run-row")).to_have_count(0)


def test_a_view_is_saved_for_the_project_and_opens_with_it(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/?project=table")
    page.get_by_role("searchbox", name="Search").fill("lr < 0.05")
    expect(page.get_by_test_id("run-row")).to_have_count(2)
    menu = page.get_by_test_id("views")
    menu.locator("summary").click()
    menu.get_by_label("Name").fill("Small rates")
    menu.get_by_label("Show this view when the project is opened").check()
    menu.get_by_role("button", name="Save view").click()
    expect(page.get_by_role("status").filter(has_text="is saved for all members")).to_be_visible()
    expect(menu.locator("summary")).to_contain_text("Small rates")
    page.goto(f"{stack.address}/?project=table")
    expect(page.get_by_test_id("run-row")).to_have_count(2)
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("lr < 0.05")
    # A person's own search is not part of the view, and survives a reload.
    page.get_by_role("searchbox", name="Search").fill("")
    expect(page.get_by_test_id("run-row")).to_have_count(3)
    expect(menu.locator("summary")).to_contain_text("Views")
    page.reload()
    expect(page.get_by_test_id("run-row")).to_have_count(3)
    menu.locator("summary").click()
    menu.get_by_role("button", name="Delete the view Small rates").click()
    expect(page.get_by_role("status").filter(has_text="is deleted")).to_be_visible()
    page.goto(f"{stack.address}/?project=table")
    expect(page.get_by_test_id("run-row")).to_have_count(3)


def test_the_menu_of_columns_follows_the_search_and_says_that_it_cannot_be_loaded(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/?project=table&q=lr+%3C+0.05")
    menu, summary = page.locator("#column-menu"), page.get_by_test_id("columns").locator("summary")
    # A request that the network refuses would be a complaint of the browser.
    page.evaluate("""() => {
        const real = window.fetch;
        const fails = (address) => String(address).includes("fragment=columns");
        window.fetch = (address, ...more) => (fails(address) ? Promise.reject(new Error()) : real(address, ...more));
        window.mend = () => (window.fetch = real);
    }""")
    summary.click()
    expect(menu.get_by_role("alert")).to_contain_text("There is no connection to the portal")
    page.evaluate("() => { window.mend(); }")
    menu.get_by_role("button", name="Try again").click()
    expect(menu.get_by_role("group", name="Last values").get_by_label("val/accuracy")).to_be_visible()
    expect(menu.get_by_role("alert")).to_have_count(0)
    # A column changes no run, so the menu stays as it is.
    menu.get_by_label("Find a column").fill("acc")
    menu.get_by_role("group", name="Last values").get_by_label("val/accuracy").check()
    expect(page.locator("thead a", has_text="val/accuracy")).to_be_visible()
    page.keyboard.press("Escape")
    summary.click()
    expect(menu.get_by_label("Find a column")).to_have_value("acc")
    page.keyboard.press("Escape")
    page.get_by_role("searchbox", name="Search").fill("no such run")
    expect(page.get_by_text("No run matches")).to_be_visible()
    summary.click()
    expect(menu.locator("legend")).to_have_text(["Run", "Others"])
    expect(menu.get_by_label("val/accuracy")).to_be_checked()
    page.keyboard.press("Escape")


def test_the_page_of_a_project_fetches_the_space_that_it_uses(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.address}/projects/table/")
    expect(page.get_by_test_id("space")).to_contain_text("points in the database")
